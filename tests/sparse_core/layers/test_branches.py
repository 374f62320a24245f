"""Several chains on one input: together they compute what each computes alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules import module

from sparse_core.layers import branches
from sparse_core.layers.branches import run_branches
from sparse_core.layers.chaining import chain
from sparse_core.layers.condensed import CondensedLinear, become_condensed


def critic(seed, group=1, activation=nn.ReLU, bias=True, width=24):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(7, width, bias=bias), activation(),
        nn.Linear(width, width, bias=bias), activation(), nn.Linear(width, 1, bias=bias),
    )  # fmt: skip
    for layer in net:
        if isinstance(layer, nn.Linear):
            g = group if layer.out_features % group == 0 else 1
            rows = torch.rand(layer.out_features // g, layer.in_features) < 0.4
            become_condensed(layer, rows.repeat_interleave(g, 0), group=g)
    chain(net)
    return net


def twins(**fields):
    return [critic(0, **fields), critic(1, **fields)]


def one_by_one(nets, x):
    return tuple(net(x) for net in nets)


def gradients(nets, run, loss, x):
    """All gradients of a loss of the outputs, and the outputs."""
    nets, x = copy.deepcopy(nets), x.detach().clone().requires_grad_(x.requires_grad)
    outputs = run(nets, x)
    loss(outputs).backward()
    found = [p.grad for net in nets for p in net.parameters()]
    return [*(out.detach() for out in outputs), x.grad, *found]


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


LOSSES = {
    "least": lambda q: torch.min(*q[:2]).sum(),
    "all": lambda q: sum((i + 1) * one.square().sum() for i, one in enumerate(q)),
    "first": lambda q: q[0].sum(),
    "last": lambda q: q[-1].sum(),
}


@pytest.fixture
def together(monkeypatch):
    """Counts how often chains ran together."""
    seen = []

    def watch(networks, input, original=branches._together):
        found = original(networks, input)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(branches, "_together", watch)
    return seen


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("of_input", [False, True])
@pytest.mark.parametrize(
    "fields", [{}, {"group": 4, "activation": nn.Tanh}, {"bias": False}], ids=str
)
def test_values_and_gradients_are_those_of_each_alone(together, fields, of_input, loss):
    nets, x = twins(**fields), torch.randn(33, 7, requires_grad=of_input)
    same(gradients(nets, run_branches, loss, x), gradients(nets, one_by_one, loss, x))
    assert together == [True]


def test_three_networks_of_different_shapes_and_a_frozen_one(together):
    nets, x = [critic(0), critic(1, width=16), critic(2)], torch.randn(20, 7, requires_grad=True)
    nets[1].requires_grad_(False)
    nets[2][0].values.requires_grad_(False)
    for loss in LOSSES.values():
        same(gradients(nets, run_branches, loss, x), gradients(nets, one_by_one, loss, x))
    assert all(together)


def test_without_gradients(together):
    nets, x = twins(), torch.randn(20, 7)
    with torch.no_grad():
        same(run_branches(nets, x), one_by_one(nets, x))
    assert together == [True]


def test_outputs_may_be_differentiated_one_after_the_other():
    def apart(run):
        nets, x = twins(), torch.linspace(-1, 1, 70).reshape(10, 7).requires_grad_()
        for out in run(nets, x):
            out.sum().backward()
        return [x.grad, *(p.grad for net in nets for p in net.parameters())]

    same(apart(run_branches), apart(one_by_one))


def test_what_was_changed_in_place_is_refused():
    nets, x = twins(), torch.randn(10, 7)
    first, _ = run_branches(nets, x)
    with torch.no_grad():
        nets[0][0].values.mul_(2)
    with pytest.raises(RuntimeError, match="inplace"):
        first.sum().backward()


def test_second_derivatives():
    def penalty(run):
        nets, x = twins(activation=nn.Tanh), torch.linspace(-1, 1, 70).reshape(10, 7)
        x.requires_grad_()
        total = sum(out.sum() for out in run(nets, x))
        (slope,) = torch.autograd.grad(total, x, create_graph=True)
        slope.square().sum().backward()
        return [x.grad, *(net[0].values.grad for net in nets)]

    for ours, theirs in zip(penalty(run_branches), penalty(one_by_one), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_dense_gradients_reach_their_taps():
    def tapped(run):
        nets, x = twins(), torch.linspace(-1, 1, 70).reshape(10, 7)
        layers = [m for net in nets for m in net if isinstance(m, CondensedLinear)]
        for layer in layers:
            layer.weight_tap.arm(True)
        LOSSES["all"](run(nets, x)).backward()
        return [layer.weight_tap.gradient() for layer in layers]

    same(tapped(run_branches), tapped(one_by_one))


def hooked(nets):
    nets[1].register_forward_hook(lambda module, args, out: out + 1)


def hooked_inside(nets):
    nets[1][2].register_forward_hook(lambda module, args, out: out + 1)


def not_condensed(nets):
    nets[1] = nn.Sequential(nn.Linear(7, 1))


def other_memory(nets):
    nets[0].double().float()
    nets[1][0].values.data = nets[1][0].values.data.clone()


@pytest.mark.parametrize("change", [hooked, hooked_inside, not_condensed])
def test_what_is_no_chain_alone_runs_by_itself(together, change):
    nets, x = twins(), torch.randn(10, 7)
    change(nets)
    same([o.detach() for o in run_branches(nets, x)], [o.detach() for o in one_by_one(nets, x)])
    assert not any(together)


@pytest.mark.parametrize("shape", [(1, 7), (2, 7), (0, 7), (3, 4, 7)])
def test_other_inputs(together, shape):
    nets, x = twins(), torch.randn(shape)
    same([o.detach() for o in run_branches(nets, x)], [o.detach() for o in one_by_one(nets, x)])
    assert together == [False]


def test_networks_are_what_they_are_now(together):
    nets, x = twins(), torch.randn(10, 7)
    run_branches(nets, x)
    other_memory(nets)
    same([o.detach() for o in run_branches(nets, x)], [o.detach() for o in one_by_one(nets, x)])
    assert together == [True, True]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_what_is_around_them_is_compiled():
    nets, x = twins(), torch.randn(10, 7)

    def least(x):
        return torch.min(*run_branches(nets, x + 1))

    expected, found = least(x), torch.compile(least, backend="eager")(x)
    assert torch.equal(found, expected)
    found.sum().backward()
    assert nets[0][0].values.grad is not None


@pytest.mark.parametrize(
    "register",
    [
        module.register_module_forward_hook,
        module.register_module_forward_pre_hook,
        module.register_module_full_backward_hook,
        module.register_module_full_backward_pre_hook,
    ],
)
def test_hooks_on_all_modules_are_seen(register):
    hook = register(lambda *_: None)
    try:
        assert any(branches.GLOBAL_HOOKS)
    finally:
        hook.remove()
    assert not any(branches.GLOBAL_HOOKS)
