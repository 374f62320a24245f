"""Networks that are one function of autograd, against their own passes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad

from sparse_core import SparseConfig, sparsify
from sparse_core.step import Passes
from sparse_core.step.under_autograd import LENT, MOST_SHAPES
from tests.sparse_core.step.test_chain import bro, network, simba

ROUNDED = 5e-6
"""What products and functions of torch differ by from the kernels', which add up in another order.

Where all layers are condensed and all activations ReLU or tanh, both are the same kernels."""


def close(mine, theirs, most=1e-6):
    return (mine - theirs).abs().max() <= most * theirs.abs().max().clamp(min=1e-9)


def gradients(net, out, x):
    inputs = [x, *(p for p in net.parameters() if p.requires_grad)]
    wanted = [one for one in inputs if one.requires_grad]
    return torch.autograd.grad(
        (out * torch.linspace(0.1, 1, out.numel()).view_as(out)).sum(), wanted
    )


def check(net, passes, x, most=1e-6):
    out, own = passes(x), net(x)
    assert out is not None, passes.reason
    assert close(out, own, most)
    pairs = zip(gradients(net, out, x), gradients(net, own, x), strict=True)
    assert all(close(mine, theirs, most) for mine, theirs in pairs)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU])
@pytest.mark.parametrize("group", [1, 4])
def test_passes_are_the_networks(group, activation):
    """With odd sizes, batches that leave a tail, and gradients of the input."""
    net = network("condensed", activation, group)
    passes, most = Passes(net, "net"), ROUNDED if activation is nn.GELU else 1e-6
    for batch in (1, 7, 64, 65):
        check(net, passes, torch.randn(batch, 11), most)
        check(net, passes, torch.randn(batch, 11, requires_grad=True), most)


@pytest.mark.parametrize("make", [simba, bro])
def test_residual_networks_have_them(make):
    net = make()
    sparsify(net, SparseConfig(method="set", sparsity=0.7, backend="condensed"))
    check(net, Passes(net, "net"), torch.randn(37, 11, requires_grad=True), ROUNDED)


def test_a_network_may_begin_by_flattening_samples():
    net = nn.Sequential(nn.Flatten(), *network(sizes=(12, 18, 5)))
    check(net, Passes(net, "net"), torch.randn(9, 3, 2, 2, requires_grad=True))
    assert Passes(network(sizes=(12, 18, 5)), "net")(torch.randn(9, 3, 12)) is None


def test_a_layer_may_come_twice():
    net = network(sizes=(18, 18, 18, 5))
    twice = type(net)(*net[:4], *net[:4], net[4])
    check(twice, Passes(twice, "net"), torch.randn(9, 18))


def test_parameters_may_be_frozen():
    net = network()
    net[0].bias.requires_grad_(False)
    net[2].values.requires_grad_(False)
    passes, x = Passes(net, "net"), torch.randn(5, 11)
    check(net, passes, x)
    passes(x).sum().backward()
    assert net[0].bias.grad is None
    assert net[2].values.grad is None


def test_several_batches_wait_for_their_backward_passes():
    net = network()
    passes = Passes(net, "net")
    batches = [torch.randn(8, 11) for _ in range(4)]
    sum(net(x).square().sum() for x in batches).backward()
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    sum(passes(x).square().sum() for x in batches).backward()
    found = [p.grad for p in net.parameters()]
    assert all(close(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
    kept = [gradient.clone() for gradient in found]
    net.zero_grad()
    passes(batches[0]).sum().backward()
    assert all(torch.equal(mine, before) for mine, before in zip(found, kept, strict=True))
    for x in batches:  # and add up where nobody resets them
        passes(x).square().sum().backward()


@pytest.mark.parametrize("keep", ["nothing", "one", "one, and move", "all"])
def test_large_gradients_are_lent_to_those_who_do_not_keep_them(keep):
    net = network(sizes=(300, 80, 5))
    passes, values = Passes(net, "net"), net[0].values
    assert values.numel() >= LENT
    kept, places = [], set()
    for step in range(5):
        net.zero_grad(set_to_none=keep != "all")
        x = torch.randn(8, 300)
        expected = torch.autograd.grad(net(x).square().sum(), values)[0]
        passes(x).square().sum().backward()
        assert close(values.grad, expected)
        places.add(values.grad.data_ptr())
        if keep.startswith("one") and step in (0, 3):
            kept.append((values.grad, expected))
        if keep == "one, and move":
            values.data = values.data.clone()
    assert all(close(mine, theirs) for mine, theirs in kept)
    assert (len(places) == 1) is (keep in ("nothing", "all"))


def test_a_graph_that_is_kept_can_be_used_again():
    net = network()
    passes, x = Passes(net, "net"), torch.randn(8, 11)
    loss = passes(x).square().sum()
    first = torch.autograd.grad(loss, [*net.parameters()], retain_graph=True)
    passes(torch.randn(8, 11)).sum().backward()
    second = torch.autograd.grad(loss, [*net.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_a_weight_that_was_changed_in_place_is_noticed():
    net = network()
    loss = Passes(net, "net")(torch.randn(8, 11)).sum()
    with torch.no_grad():
        net[2].values.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_have_gradients():
    net, x = network(activation=nn.Tanh), torch.randn(6, 11, requires_grad=True)
    inputs = [x, *net.parameters()]

    def penalty(out):
        found = torch.autograd.grad(out.square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(each.square().sum() for each in found), inputs)

    pairs = zip(penalty(Passes(net, "net")(x)), penalty(net(x)), strict=True)
    assert all(close(mine, theirs) for mine, theirs in pairs)
    y = Passes(net, "net")(x)
    z = net(x)
    rows = torch.eye(z.numel())[:4].view(4, *z.shape)
    mine = torch.autograd.grad(y, x, rows, is_grads_batched=True)
    assert close(mine[0], torch.autograd.grad(z, x, rows, is_grads_batched=True)[0])


def test_an_input_that_was_changed_is_only_missed_by_derivatives_of_gradients():
    net, x = network(), torch.randn(6, 11)
    passes = Passes(net, "net")
    expected = torch.autograd.grad(net(x).square().sum(), [*net.parameters()])
    loss, other = passes(x).square().sum(), passes(x).square().sum()
    x.zero_()
    found = torch.autograd.grad(loss, [*net.parameters()])
    assert all(close(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
    with pytest.raises(RuntimeError, match="input of a compiled network has been modified"):
        torch.autograd.grad(other, [*net.parameters()], create_graph=True)


def test_what_is_unusual_is_left_to_the_network():
    net, x = network(), torch.randn(6, 11)
    passes = Passes(net, "net")
    with torch.no_grad():
        assert passes(x) is None
    with torch.autocast("cpu"):
        assert passes(x) is None
    with pytest.warns(UserWarning, match="Anomaly"), torch.autograd.detect_anomaly():
        assert passes(x) is None
    assert all(passes(odd) is None for odd in (x.double(), x[:0], x[0], torch.randn(6, 12)))
    seen = []
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def loss(given):
        seen.append(passes(x))
        return functional_call(net, given, (x,)).sum()

    grad(loss)(parameters)
    assert seen == [None]
    assert passes.reason is None
    check(net, passes, x)


def test_hooks_are_obeyed_as_long_as_they_are_there():
    net, x = network(), torch.randn(6, 11)
    passes = Passes(net, "net")
    check(net, passes, x)
    for module in (net, net[1], net[2]):
        handle = module.register_forward_hook(lambda module, inputs, output: None)
        assert passes(x) is None
        assert passes.reason == f"net has hooks on a {type(module).__name__}"
        handle.remove()
        check(net, passes, x)
        assert passes.reason is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda net: net.append(nn.Dropout(0.5)), "net.5 is a Dropout"),
        (lambda net: net.double(), "net.0 is torch.float64"),
        (lambda net: net.append(nn.Linear(5, 1 << 14)), "net.5 is dense and has 81920 weights"),
    ],
)
def test_what_chains_do_not_know_is_refused_for_good(change, reason):
    net, x = network(), torch.randn(6, 11)
    passes = Passes(net, "net")
    check(net, passes, x)
    change(net)
    passes.reconsider()
    assert passes(x) is None
    assert passes.refuses
    assert passes.reason.startswith(reason)


def test_another_module_in_the_place_of_one_is_noticed():
    net, x = network(), torch.randn(6, 11)
    passes = Passes(net, "net")
    check(net, passes, x)
    net[1] = nn.Tanh()
    assert passes(x) is None
    assert passes.reason == "net has other modules than before"
    passes.reconsider()
    check(net, passes, x)


def test_batches_that_suit_dense_products_and_pieces_are_left():
    net = nn.Sequential(*network(), nn.ReLU(), nn.Linear(5, 6000))
    passes = Passes(net, "net")
    assert passes(torch.randn(200, 11)) is None
    assert passes.reason == "a dense product suits net.6 with batches of 200"
    assert not passes.refuses
    check(net, passes, torch.randn(3, 11), ROUNDED)
    narrow = Passes(network(sizes=(256, 256, 5)), "net")
    assert narrow(torch.randn(1 << 13, 256)) is None
    assert narrow.reason == "batches of 8192 are computed in pieces"
    assert Passes(network("masked"), "net").reason == "no layer is condensed"


def test_growth_sees_the_gradients_of_all_weights():
    net, x = network(), torch.randn(6, 11)
    passes, seen = Passes(net, "net"), []
    taps = [net[i].weight_tap for i in (0, 2, 4)]
    for compute in (passes, net):
        out = compute(x)
        for tap in taps:
            tap.arm(True)
        out.square().sum().backward()
        seen.append([tap.gradient() for tap in taps])
        net.zero_grad()
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*seen, strict=True))


def test_a_masked_layer_that_growth_looks_at_computes_by_itself():
    net, x = nn.Sequential(network(), nn.ReLU(), nn.Linear(5, 4)), torch.randn(6, 11)
    sparsify(net[2:], SparseConfig(method="rigl", sparsity=0.5, backend="masked"))
    passes, tap = Passes(net, "net"), net[2].weight_tap
    early = passes(x)
    tap.arm(True)
    assert passes(x) is None
    early.sum().backward()
    assert tap.gradient() is not None
    tap.arm(False)
    check(net, passes, x, ROUNDED)


def test_topologies_may_move():
    net, x = network(), torch.randn(8, 11)
    engine, passes = net.sparse_engine, Passes(net, "net")
    engine.attach(torch.optim.Adam(net.parameters()))
    check(net, passes, x)
    engine._gradients.arm(engine.tensors, 999, engine._schedule, None)
    net(x).square().sum().backward()
    engine.update()
    net.zero_grad()
    for tensor in engine.tensors:
        tensor.tap.arm(False)
    check(net, passes, x)


def test_only_so_many_sizes_are_kept():
    net = network()
    passes = Passes(net, "net")
    for batch in range(64, 64 * (MOST_SHAPES + 4), 64):
        check(net, passes, torch.randn(batch, 11))
    assert len(passes._idle) == MOST_SHAPES
