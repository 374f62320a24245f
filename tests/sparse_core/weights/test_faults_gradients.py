"""Known faults of published implementations: what growth sees of the gradient."""

from __future__ import annotations

import copy

import pytest
import torch

from sparse_core import SparseConfig, sparsify
from tests.sparse_core.networks import built, mlp, steps, train

# Gradients ----------------------------------------------------------------------------------------


def test_the_mean_is_of_the_gradient_not_of_its_magnitude():
    net, optimizer, engine = built(
        dict(method="rigl", sparsity=0.5, update_every=2, gradient_steps=2), (4, 3), lr=0.0
    )
    tensor = engine.tensors[0]
    inactive = ~tensor.active()
    seen = []
    engine.observers.append(lambda *_: seen.append(tensor.active()))
    weak, strong = inactive.nonzero()[:2].tolist()
    for sign in (1.0, -1.0):
        optimizer.zero_grad()
        net(torch.randn(2, 4)).sum().backward()
        value = torch.zeros_like(tensor.weight)
        value[tuple(weak)], value[tuple(strong)] = 1.0, 10.0 * sign
        value[tensor.active()] = 1e-9
        tensor.tap.value = value
        tensor.weight.grad = None
        optimizer.step()
    assert bool(seen[0][tuple(weak)])


def test_a_mean_over_all_steps_between_updates_begins_anew():
    """An accumulation as long as the interval must be reset like any other."""
    net, optimizer, engine = built(
        dict(method="rigl", sparsity=0.5, update_every=3, gradient_steps=3)
    )
    for step in range(6):
        train(net, optimizer, range(step, step + 1))
        mean = engine.tensors[1].companion("gradient_mean")
        assert bool(mean.any()) == (step % 3 != 2)


def test_momentum_goes_on_over_updates():
    """m <- 0.9 m + 0.1 g with Adam's betas, whether the topology moves on the step or not."""
    net, optimizer, engine = built(dict(method="snfs", sparsity=0.5, update_every=2), lr=0.0)
    tensor = engine.tensors[1]
    expected = torch.zeros_like(tensor.weight)
    for step in range(6):
        optimizer.zero_grad()
        x = torch.randn(8, 12, generator=torch.Generator().manual_seed(step))
        net(x).pow(2).mean().backward()
        expected = 0.9 * expected + 0.1 * tensor.tap.gradient().clone()
        optimizer.step()
        torch.testing.assert_close(tensor.companion("gradient_mean"), expected)
    assert engine.updates == 3 and bool(expected.any())


def test_a_mean_that_was_begun_is_forgotten_when_the_schedule_restarts():
    net, optimizer, engine = built(
        dict(method="rigl", sparsity=0.5, update_every=4, gradient_steps=2)
    )
    train(net, optimizer, range(3))
    assert bool(engine.tensors[0].companion("gradient_mean").any())
    engine.restart(100)
    assert not engine.tensors[0].companion("gradient_mean").any()


@pytest.mark.parametrize("growth", ["gradient", "momentum"])
def test_a_new_draw_of_the_network_forgets_the_gradients_of_the_old(growth):
    net, optimizer, engine = built(
        dict(method="rigl", growth=growth, sparsity=0.5, update_every=4, gradient_steps=3)
    )
    train(net, optimizer, range(3))
    engine.redraw(1)
    for tensor in engine.tensors:
        square = tensor.companion("gradient_square")
        assert not tensor.companion("gradient_mean").any()
        assert square is None or not square.any()


@pytest.mark.parametrize("fields", [
    dict(method="mest"),
    dict(method="rigl", gradient_steps=2, update_every=2),
    dict(method="snfs"),
])  # fmt: skip
def test_a_scaled_loss_grows_and_drops_the_same(fields):
    """Growth must see gradients as the optimizer does, without the scale of mixed precision."""
    masks = []
    for scale in (1.0, 2.0**14):
        torch.manual_seed(0)
        net = mlp(12, 16, 4)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        engine = sparsify(
            net, SparseConfig(**dict(update_every=1, sparsity=0.6) | fields), optimizer
        )
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
        for step in range(6):
            x = torch.randn(6, 12, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            scaler.scale((net(x) - 0.5).pow(2).mean()).backward()
            scaler.step(optimizer)
            scaler.update()
        assert engine.updates in (3, 6)
        masks.append([t.mask.clone() for t in engine.tensors])
    assert all(map(torch.equal, *masks))


def test_a_step_that_the_scaler_leaves_out_counts_for_nothing():
    net, optimizer, engine = built(dict(method="rigl", sparsity=0.6, update_every=1))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    before = copy.deepcopy(net.state_dict())
    scaler.scale(net(torch.full((2, 12), float("inf"))).sum()).backward()
    scaler.step(optimizer)
    assert engine.steps == 0
    assert all(map(torch.equal, before.values(), net.state_dict().values()))
    scaler.update()
    steps(net, optimizer, 1)
    assert engine.updates == 1


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("growth", ["gradient", "momentum"])
def test_an_actors_loss_does_not_reach_the_critics_growth(set_to_none, growth):
    """Soft actor-critic: the actor's backward passes through the critic before the next step."""
    results = []
    for polluted in (False, True):
        torch.manual_seed(0)
        actor, critic = mlp(6, 6), mlp(12, 16, 1)
        optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
        sparsify(
            critic,
            SparseConfig(method="rigl", growth=growth, sparsity=0.6, update_every=1),
            optimizer,
        )
        for step in range(4):
            x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad(set_to_none=set_to_none)
            critic(torch.cat([x, x.flip(0)], 1)).pow(2).mean().backward()
            optimizer.step()
            if polluted:
                (-50 * critic(torch.cat([x, actor(x)], 1))).mean().backward()
        results.append([v.clone() for v in critic.state_dict().values()])
    assert all(map(torch.equal, *results))


def test_parts_of_a_batch_add_up():
    """Gradient accumulation: growth sees the sum over the parts, as the optimizer does."""
    masks = []
    for parts in (1, 4):
        torch.manual_seed(0)
        net = mlp(12, 16, 4).double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        engine = sparsify(net, SparseConfig(method="rigl", sparsity=0.6, update_every=1), optimizer)
        for step in range(4):
            x = torch.randn(8, 12, generator=torch.Generator().manual_seed(step)).double()
            optimizer.zero_grad()
            for part in x.chunk(parts):
                ((net(part) - 0.5).pow(2).sum() / 32).backward()
            optimizer.step()
        masks.append([t.mask for t in engine.tensors])
    assert all(map(torch.equal, *masks))


@pytest.mark.parametrize("growth", ["gradient", "momentum"])
@pytest.mark.parametrize("gradient_steps", [1, 2])
def test_a_closure_is_a_step_like_any_other(growth, gradient_steps):
    results = []
    for with_closure in (False, True):
        net, optimizer, engine = built(
            dict(
                method="rigl", growth=growth, sparsity=0.6, update_every=2,
                gradient_steps=gradient_steps,
            )
        )  # fmt: skip
        for step in range(5):
            x = torch.randn(6, 12, generator=torch.Generator().manual_seed(step))

            def closure(x=x, net=net, optimizer=optimizer):
                optimizer.zero_grad()
                loss = (net(x) - 0.5).pow(2).mean()
                loss.backward()
                return loss

            if with_closure:
                assert optimizer.step(closure) > 0
            else:
                closure()
                optimizer.step()
        assert engine.updates == 2
        results.append(list(net.state_dict().values()))
    assert all(map(torch.equal, *results))


def test_guided_sampling_looks_at_the_whole_batch():
    """Looking at its first sample only, it would find all else silent."""
    net, optimizer, engine = built(
        dict(method="gse", growth="sampled_grabo", sparsity=0.8, update_every=1), (12, 16, 4)
    )
    tensor = engine.tensors[0]
    x = torch.zeros(4, 12)
    x[1:, 7] = 1.0
    optimizer.zero_grad()
    net(x).sum().backward()
    before = tensor.active()
    optimizer.step()
    grown = tensor.active() & ~before
    assert bool(grown.any()) and bool(grown[:, 7].sum() == grown.sum())


def test_gradual_pruning_can_drop_by_sensitivity():
    net, optimizer, engine = built(
        dict(method="gmp", drop="sensitivity", sparsity=0.8, update_every=2, horizon=8)
    )
    steps(net, optimizer, 8)
    assert engine.sparsity == pytest.approx(0.8, abs=1e-3)
