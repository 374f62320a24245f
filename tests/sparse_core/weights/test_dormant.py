"""ReDo: one reset by hand, dense and sparse; what is seen of neurons; the same after a resume."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.weights.activity import Activity
from tests.sparse_core.networks import mlp, moments, train


def silenced(net, layer=0, neurons=(1, 2)):
    """Make some neurons silent whatever the input."""
    with torch.no_grad():
        net[layer].weight[list(neurons)] = 0
        net[layer].bias[list(neurons)] = -1
    return net


def test_activity_by_hand():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
        net[0].bias.zero_()
    seen = Activity(net)
    seen.watch(True)
    net(torch.tensor([[1.0, 4.0], [3.0, 0.0]]))
    # Means 2, 2 and 0, whose mean is 4 / 3.
    assert seen.scores(net[0]).tolist() == pytest.approx([1.5, 1.5, 0.0])
    assert seen.dormant(net[0], 0.0).tolist() == [False, False, True]
    assert seen.readers(net[0]) == [net[2]] and seen.layers == [net[0]]
    with torch.no_grad():
        net(torch.full((2, 2), -1.0))
    assert seen.scores(net[0]).tolist() == pytest.approx([1.5, 1.5, 0.0])
    seen.watch(False)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_two_heads_read_the_same_neurons_and_filters_go_through_a_flatten():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.flat = nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten()
            self.left, self.right = nn.Linear(12, 2), nn.Linear(12, 2)

        def forward(self, x):
            x = self.flat(self.relu(self.conv(x)))
            return self.left(x) + self.right(x)

    net = Heads()
    seen = Activity(net)
    seen.watch(True)
    net(torch.ones(2, 1, 3, 3))
    assert seen.readers(net.conv) == [net.left, net.right]
    assert seen.scores(net.conv).shape == (3,)
    twin = copy.deepcopy(net)
    assert twin.conv._forward_hooks


@pytest.mark.parametrize(
    "fields",
    [
        dict(method="dense", sparsity=0.0),
        dict(method="static", sparsity=0.5),
        dict(method="static", sparsity=0.5, backend="condensed"),
        dict(method="srigl", sparsity=0.5, ablation=False, backend="condensed"),
        dict(method="sr_ste", sparsity=0.5, structure="2:4"),
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_a_dormant_neuron_starts_anew(fields):
    torch.manual_seed(0)
    net = silenced(mlp(12, 16, 16, 4))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    config = SparseConfig(reset_dormant_every=3, update_every=100, horizon=1000, **fields)
    engine = sparsify(net, config, optimizer)
    train(net, optimizer, range(2))
    before = copy.deepcopy(net)
    train(net, optimizer, range(2, 3))
    first = engine.tensors[0] if engine.tensors else None
    rows = net[0].weight.detach() if first is None else first.values()
    columns = net[2].weight.detach() if first is None else engine.tensors[1].values()
    active = torch.ones_like(rows).bool() if first is None else first.active()
    readers = torch.ones_like(columns).bool() if first is None else engine.tensors[1].active()
    for neuron in (1, 2):
        new, fan_in = rows[neuron][active[neuron]], int(active[neuron].sum())
        assert bool((new != 0).all()) and float(new.abs().max()) <= fan_in**-0.5
        assert len(new.unique()) == fan_in
        assert not columns[:, neuron][readers[:, neuron]].any()
        assert net[0].bias[neuron] == 0
    state = optimizer.state[net[0].bias]
    assert state["exp_avg"][[1, 2]].tolist() == [0, 0] and int(state["step"]) == 0
    if first is None:
        assert all(not m[[1, 2]].any() and m[0].any() for m in moments_of(optimizer, net[0].weight))
        assert all(not m[:, [1, 2]].any() for m in moments_of(optimizer, net[2].weight))
    else:
        assert all(bool(m.any()) for m in moments(optimizer, first))
        assert int(optimizer.state[first.weight]["step"]) == 0
    x = torch.randn(8, 12)
    with torch.no_grad():  # the neurons were silent, so only the step itself changes the outputs
        assert float((net(x) - before(x)).abs().max()) < 0.1
    assert int(optimizer.state[net[4].bias]["step"]) == 3


def test_masked_and_condensed_start_anew_alike():
    found = {}
    for backend in ("masked", "condensed"):
        torch.manual_seed(0)
        net = silenced(mlp(12, 16, 16, 4)).double()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        config = SparseConfig(
            method="set", sparsity=0.5, update_every=2, reset_dormant_every=3,
            dormant_threshold=0.3, backend=backend,
        )  # fmt: skip
        engine = sparsify(net, config, optimizer)
        train(net, optimizer, range(7))
        assert engine.neurons.resets == 2 and sum(engine.neurons.last.values()) > 0
        found[backend] = [tensor.values() for tensor in engine.tensors]
    for masked, condensed in zip(*found.values(), strict=True):
        torch.testing.assert_close(masked, condensed, rtol=1e-9, atol=1e-12)


def moments_of(optimizer, parameter):
    state = optimizer.state[parameter]
    return [state["exp_avg"], state["exp_avg_sq"]]


def test_a_chain_of_dormant_layers_is_cut_between_them():
    # Incoming weights are drawn first: those from a dormant neuron to a dormant neuron end as zero.
    torch.manual_seed(0)
    net = silenced(silenced(mlp(6, 8, 8, 2)), layer=2, neurons=(0, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    config = SparseConfig(method="dense", sparsity=0.0, reset_dormant_every=1)
    sparsify(net, config, optimizer)
    train(net, optimizer, range(1), n_in=6)
    assert not net[2].weight[:, [1, 2]].any()
    assert bool((net[2].weight[[0, 3]][:, [0, 3, 4, 5, 6, 7]] != 0).all())


def test_an_ablated_neuron_stays_ablated():
    torch.manual_seed(0)
    net = mlp(12, 16, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    config = SparseConfig(method="srigl", sparsity=0.5, reset_dormant_every=1, update_every=1000)
    engine = sparsify(net, config, optimizer)
    tensor = engine.tensors[0]
    mask = tensor.active()
    mask[3] = False
    tensor.start(mask)
    with torch.no_grad():
        net[0].bias[3] = -1
    train(net, optimizer, range(1))
    assert torch.equal(tensor.active(), mask) and net[0].bias[3] == -1


@pytest.mark.parametrize("method", ["dense", "rigl"])
def test_a_run_with_resets_goes_on_to_the_bit(method):
    def built():
        torch.manual_seed(0)
        net = silenced(mlp(12, 16, 16, 4))
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        fields = dict(sparsity=0.0) if method == "dense" else dict(sparsity=0.5)
        config = SparseConfig(
            method=method, reset_dormant_every=4, dormant_threshold=0.4, update_every=3, **fields
        )
        sparsify(net, config, optimizer)
        return net, optimizer

    net, optimizer = built()
    train(net, optimizer, range(3))
    saved = copy.deepcopy([net.state_dict(), optimizer.state_dict()])
    twin, twin_optimizer = built()
    twin.load_state_dict(saved[0])
    twin_optimizer.load_state_dict(saved[1])
    copied = copy.deepcopy((net, optimizer))
    for each, its in ((net, optimizer), (twin, twin_optimizer), copied):
        train(each, its, range(3, 10))
    states = [[*n.state_dict().values()] for n in (net, twin, copied[0])]
    assert all(map(torch.equal, states[0], states[1]))
    assert all(map(torch.equal, states[0], states[2]))


def test_a_network_without_activation_modules_is_warned_of():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(12, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.second(torch.relu(self.first(x)))

    net = Plain()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    sparsify(net, SparseConfig(method="dense", sparsity=0.0, reset_dormant_every=1), optimizer)
    with pytest.warns(UserWarning, match="reset_dormant_every=1: no layer was seen whose neurons"):
        train(net, optimizer, range(2))


def test_resets_are_part_of_an_experiment_dense_ones_too():
    dense = SparseConfig(method="dense", sparsity=0.0, reset_dormant_every=10, seed=3)
    assert dense.canonical().reset_dormant_every == 10
    assert SparseConfig(dormant_threshold=0.1).canonical() == SparseConfig()
    with pytest.raises(ValueError, match="reset_dormant_every=0: must be an integer of at least 1"):
        SparseConfig(reset_dormant_every=0)
    with pytest.raises(ValueError, match=r"dormant_threshold=2: must be a number in \[0, 1\]"):
        SparseConfig(dormant_threshold=2)
