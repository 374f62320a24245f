"""Target networks: their topology, beside updates that are written to their parameters."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, condense, sparsify
from sparse_core.layers.chain import CondensedSequential
from tests.sparse_core.networks import mlp, train


def built(backend, *, lagging=False, partial=False):
    torch.manual_seed(0)
    net, target = mlp(12, 20, 16, 4), mlp(12, 20, 16, 4)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    fields = dict(sparsity=0.7, update_every=5, drop_fraction=0.5, backend=backend)
    engine = sparsify(net, SparseConfig(**fields), optimizer)
    engine.follow(target, lagging=lagging, partial=partial)
    average(net, target, 1.0)
    return net, target, optimizer, engine


@torch.no_grad()
def average(net, target, tau):
    for own, theirs in zip(target.parameters(), net.parameters(), strict=True):
        own.data.mul_(1 - tau)
        torch.add(own.data, theirs.data, alpha=tau, out=own.data)


BACKENDS = pytest.mark.parametrize("backend", ["masked", "condensed"])


@BACKENDS
def test_a_follower_has_the_online_topology_at_every_moment(backend):
    net, target, optimizer, engine = built(backend)
    x = torch.randn(9, 12)
    assert torch.equal(net(x), target(x))
    for step in range(20):
        train(net, optimizer, range(step, step + 1))
        average(net, target, 0.1)
    (follower,) = engine._followers
    for tensor in engine.tensors:
        assert torch.equal(follower.copies[tensor.name].active(), tensor.active())
    average(net, target, 1.0)
    assert torch.equal(net(x), target(x))


@BACKENDS
@pytest.mark.parametrize("tau", [1.0, 0.25, 0.01])
def test_a_lagging_copy_stands_still_between_its_updates(backend, tau):
    net, target, optimizer, engine = built(backend, lagging=True)
    (follower,) = engine._followers
    x = torch.randn(9, 12)
    for step in range(0, 30, 10):
        before = target(x)
        old = {name: t.values().clone() for name, t in follower.copies.items()}
        train(net, optimizer, range(step, step + 10))
        assert torch.equal(target(x), before)
        average(net, target, tau)
        target(x)
        for tensor in engine.tensors:
            mask, now = tensor.active(), follower.copies[tensor.name]
            expected = mask * ((1 - tau) * old[tensor.name] + tau * tensor.values())
            torch.testing.assert_close(now.values(), expected, rtol=1e-5, atol=1e-6)
            assert torch.equal(now.active(), mask)
            assert torch.equal(now.seen(), tensor.seen())


@BACKENDS
def test_both_kinds_of_steps_and_several_averages_in_a_row(backend):
    net, target, optimizer, engine = built(backend, lagging=True)
    (follower,) = engine._followers
    expected = {t.name: t.values().clone() for t in engine.tensors}
    for step in range(23):
        train(net, optimizer, range(step, step + 1))
        for tau in (0.2, 0.1) if step % 3 else ():
            average(net, target, tau)
            for tensor in engine.tensors:
                mixed = (1 - tau) * expected[tensor.name] + tau * tensor.values()
                expected[tensor.name] = mixed * tensor.active()
    target(torch.zeros(1, 12))
    for name, tensor in follower.copies.items():
        torch.testing.assert_close(tensor.values(), expected[name], rtol=1e-4, atol=1e-6)


@BACKENDS
def test_a_lagging_copy_goes_on_after_a_load_in_either_order(backend):
    both = nn.ModuleDict(dict(zip(("net", "target"), built(backend, lagging=True), strict=False)))
    twin = nn.ModuleDict(dict(zip(("net", "target"), built(backend, lagging=True), strict=False)))
    optimizer = torch.optim.SGD(both.net.parameters(), lr=0.1)
    both.net.sparse_engine.attach(optimizer)
    train(both.net, optimizer, range(7))
    twin.load_state_dict(both.state_dict())
    x = torch.randn(5, 12)
    assert torch.equal(both.target(x), twin.target(x))
    for pair in (both, twin):
        average(pair.net, pair.target, 0.5)
    assert torch.equal(both.target(x), twin.target(x))
    assert torch.equal(copy.deepcopy(twin).target(x), twin.target(x))


@BACKENDS
def test_a_target_is_exported_as_it_would_be_used(backend):
    net, target, optimizer, _ = built(backend, lagging=True)
    train(net, optimizer, range(7))
    average(net, target, 0.5)
    x = torch.randn(5, 12)
    small = condense(target)
    torch.testing.assert_close(small(x), target(x).detach())
    assert not small._forward_pre_hooks
    small.load_state_dict(small.state_dict())


@BACKENDS
def test_a_part_of_a_network_can_follow(backend):
    net, _, optimizer, engine = built(backend)
    part = nn.Sequential(nn.Linear(12, 20), nn.ReLU())
    engine.follow(part, partial=True)
    train(net, optimizer, range(10))
    (_, follower) = engine._followers
    assert list(follower.copies) == ["0.weight"]
    assert torch.equal(follower.copies["0.weight"].active(), engine.tensors[0].active())
    assert (type(part) is CondensedSequential) == (backend == "condensed")
    assert "sparse_clock" not in part.state_dict()
    with pytest.raises(ValueError, match=r"no layer like '0.weight'.*\(20, 12\).*\(8, 12\)"):
        engine.follow(nn.Sequential(nn.Linear(12, 8)), partial=True)


@BACKENDS
def test_a_second_optimizers_moments_move_with_the_weights(backend):
    torch.manual_seed(0)
    net = mlp(12, 20, 16, 4)
    first, second = (torch.optim.Adam(net.parameters(), lr=1e-3) for _ in range(2))
    config = SparseConfig(sparsity=0.7, update_every=5, drop_fraction=0.5, backend=backend)
    engine = sparsify(net, config)
    engine.attach(first, second)
    for step in range(5):
        train(net, first, range(step, step + 1))
        second.step()
    assert engine.updates == 1
    for tensor in engine.tensors:
        one, other = (o.state[tensor.weight]["exp_avg"] for o in (first, second))
        assert torch.equal(one, other)
        assert one.any()
