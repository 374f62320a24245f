"""Protected weights are read from where they are kept, whatever becomes of the parameter."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.delta import Delta

INPUTS, OUTPUTS = 10, 8


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(INPUTS, OUTPUTS), nn.ReLU(), nn.Linear(OUTPUTS, OUTPUTS))


def convolution():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, INPUTS)), nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(32, 8)
    )


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.attend = nn.MultiheadAttention(INPUTS, 2, batch_first=True)
        self.out = nn.Linear(INPUTS, OUTPUTS)

    def forward(self, x):
        x = x.unsqueeze(1)
        return self.out(self.attend(x, x, x, need_weights=False)[0].squeeze(1))


NETWORKS = {"linear": linear, "convolution": convolution, "attention": Attention}


def sparse(network, backend="masked"):
    net = network()
    engine = sparsify(net, SparseConfig(method="static", sparsity=0.5, backend=backend))
    return net, engine.tensors


def ruin(net):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)


@pytest.mark.parametrize("name", NETWORKS)
def test_whatever_is_written_over_protected_weights_is_not_read(name):
    """All weights and biases are an earlier task's: the output is a constant of the network."""
    net, tensors = sparse(NETWORKS[name])
    x = torch.randn(5, INPUTS)
    expected = net(x).detach()
    for tensor in tensors:
        tensor.protect(tensor.active())
        neurons = torch.ones(tensor.rows, dtype=torch.bool)
        tensor.lend(None, neurons, None if tensor.bias is None else tensor.bias.detach())
    saved = copy.deepcopy(net.state_dict())
    ruin(net)
    output = net(x)
    assert torch.equal(output, expected)
    output.sum().backward()
    for tensor in tensors:
        gradients = [p.grad for p in (tensor.weight, tensor.bias) if p is not None]
        assert not any(bool(gradient.any()) for gradient in gradients if gradient is not None)
        tensor.restore()
        assert torch.equal(tensor.values() * tensor.active(), tensor.frozen.flatten(1))
        if tensor.bias is not None:
            assert torch.equal(tensor.bias, saved[tensor.bias_name])


def test_what_is_protected_may_be_cast_and_copied():
    net, (first, _) = sparse(linear)
    first.protect(first.active())
    x = torch.randn(5, INPUTS)
    ruin(net)
    expected = net(x)
    assert torch.equal(copy.deepcopy(net)(x), expected)
    torch.testing.assert_close(net.double()(x.double()).float(), expected)


def test_unprotected_weights_are_read_as_ever():
    net, (first, _) = sparse(linear)
    first.protect(first.active())
    x = torch.randn(5, INPUTS)
    first.protect(None)
    before = net(x)
    ruin(net)
    assert not torch.equal(net(x), before)


def test_more_is_protected_at_its_worth_of_now():
    """A later call takes the parameter as it is; what was kept is written back first."""
    net, (tensor, _) = sparse(linear)
    early = tensor.active() & (torch.arange(tensor.cols) < 5)
    tensor.protect(early)
    kept = tensor.values().clone()
    ruin(net)
    tensor.restore()
    tensor.protect(tensor.active())
    expected = torch.where(early, kept, kept + 1)
    assert torch.equal(tensor.frozen[tensor.active()], expected[tensor.active()])


def test_a_step_leaves_protected_weights_as_they_are():
    net = linear()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    tensor = sparsify(net, SparseConfig(method="static", sparsity=0.5), optimizer).tensors[0]
    early = tensor.active() & (torch.arange(tensor.cols) < 5)
    tensor.protect(early)
    before = tensor.values().clone()
    net(torch.randn(5, INPUTS)).square().sum().backward()
    optimizer.step()
    assert torch.equal(tensor.values()[early], before[early])
    assert not torch.equal(tensor.values(), before)


def test_no_change_of_topology_or_of_all_weights_touches_protected_ones():
    _, (tensor, _) = sparse(linear)
    held = tensor.active()
    tensor.protect(held)
    before = tensor.values().clone()
    tensor.apply(Delta.between(held, ~held))
    assert torch.equal(tensor.values(), before)
    tensor.write(torch.ones(held.shape))
    assert torch.equal(tensor.values(), torch.where(held, before, 1.0))
    tensor.apply(Delta.between(~held, held))
    assert torch.equal(tensor.values(), before)
    tensor.start(torch.zeros_like(held))
    assert torch.equal(tensor.values(), before)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize(
    ("method", "empty", "reserved", "still"),
    [
        ("srigl", [2], [], [2]),  # ablated
        ("static", [], [2], [2]),
        ("static", [], range(OUTPUTS), range(OUTPUTS)),
        ("static", [2], [], []),  # a neuron that has no weights by chance
    ],
)
def test_biases_of_ablated_and_of_reserved_neurons_do_not_train(
    method, empty, reserved, still, backend
):
    net = linear()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    config = SparseConfig(method, sparsity=0.5, backend=backend)
    tensor = sparsify(net, config, optimizer).tensors[0]
    rows = torch.arange(OUTPUTS)
    tensor.start(tensor.active() & ~torch.isin(rows, torch.tensor([*empty])).unsqueeze(1))
    if reserved:
        tensor.lend(None, torch.isin(rows, torch.tensor([*reserved])))
    with torch.no_grad():
        net[0].bias.fill_(0.5)
    net(torch.randn(50, INPUTS)).square().sum().backward()
    optimizer.step()
    assert (net[0].bias == 0.5).nonzero().squeeze(1).tolist() == [*still]


def test_how_wide_a_fan_in_can_be_beside_earlier_tasks():
    net = linear()
    config = SparseConfig("static", sparsity=0.5, structure="constant_fan_in")
    tensor = sparsify(net, config).tensors[0]
    assert tensor.widest() == INPUTS
    taken = torch.zeros(OUTPUTS, INPUTS, dtype=torch.bool)
    taken[0], taken[1, :3], taken[2, :4] = True, True, True
    tensor.protect(taken)
    tensor.lend(None, torch.arange(OUTPUTS) == 0)
    assert tensor.widest() == INPUTS - 4
    tensor.spare = 2
    assert tensor.widest() == INPUTS - 6
    taken[3, :5] = True
    tensor.protect(taken)
    assert tensor.widest() == INPUTS - 7
    tensor.protected[4, :6] = True
    assert tensor.widest() == INPUTS - 8
    tensor.protect(None)
    assert tensor.widest() == INPUTS - 2


def test_protected_weights_may_be_in_a_mask_only_where_they_are_reused():
    _, (tensor, _) = sparse(linear)
    held = tensor.active()
    assert tensor.available() is None
    tensor.protect(held)
    assert torch.equal(tensor.available(), ~held)
    tensor.may_reuse = True
    assert tensor.available() is None


@pytest.mark.parametrize("way", ["reused", "lent"])
def test_condensed_layers_read_what_is_kept(way):
    net, tensors = sparse(linear, "condensed")
    x = torch.randn(5, INPUTS)
    tensor = tensors[0]
    assert isinstance(tensor, CondensedTensor)
    held = tensor.active()
    protected = held if way == "reused" else ~held
    weights = torch.where(held, tensor.values(), 0.5)
    neurons = torch.arange(OUTPUTS) < 4
    biases = torch.arange(OUTPUTS).float()
    tensor.protect(protected, weights)
    tensor.lend(None if way == "reused" else protected, neurons, biases)
    layer = net[0]
    read = weights if way == "lent" else weights * held
    own = copy.deepcopy(layer.bias.detach())
    with torch.no_grad():
        hidden = nn.functional.linear(x, read, torch.where(neurons, biases, own))
        torch.testing.assert_close(layer(x), hidden)
        layer.bias[:4] += 3
        layer.values += 2 if way == "reused" else 0
        torch.testing.assert_close(layer(x), hidden)
        tensor.restore()
    assert torch.equal(layer.bias, torch.where(neurons, biases, own))
    torch.testing.assert_close(tensor.values(), weights * held)
