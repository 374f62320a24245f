"""One test for each fault that published implementations of sparse training are known for."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sparse_core import SparseConfig, sparsify
from sparse_core.registry import METHODS
from sparse_core.topology import Delta
from tests.sparse_core.nets import built, mlp, train


def steps(net, optimizer, number, shape=(6, 12), start=0):
    for step in range(start, start + number):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (net(x) - 0.5).pow(2).mean().backward()
        optimizer.step()


def moments(optimizer, tensor):
    state = optimizer.state[tensor.weight].values()
    return [v for v in state if torch.is_tensor(v) and v.shape == tensor.weight.shape]


# Initialisation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("initialisation", ["scaled", "kaiming"])
@pytest.mark.parametrize("method", ["rigl", "srigl"])
def test_initial_weights_carry_the_signal(initialisation, method):
    """A standard deviation of 2 / fan-in, not sqrt(2 / fan-in), leaves 0.5 % after four layers."""
    torch.manual_seed(0)
    net = mlp(*[256] * 6)
    for layer in net[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    fields = dict(method=method, sparsity=0.9, initialisation=initialisation)
    sparsify(net, SparseConfig(**fields, distribution="uniform"))
    x = torch.randn(256, 256)
    with torch.no_grad():
        rms = [float(net[: 2 * depth](x).pow(2).mean().sqrt()) for depth in range(1, 5)]
    assert all(0.5 < value < 1.5 for value in rms)


def test_a_neuron_without_inputs_is_initialised_to_zero_not_to_infinity():
    net = nn.Sequential(nn.Linear(4, 50), nn.Linear(50, 2))
    engine = sparsify(net, SparseConfig(method="rigl", sparsity=0.95, distribution="uniform"))
    assert bool((engine.tensors[0].active().sum(1) == 0).any())
    assert all(bool(tensor.weight.isfinite().all()) for tensor in engine.tensors)


# SRigL --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(12, 16, 10), (12, 10)])
def test_the_output_layer_keeps_its_neurons_at_a_high_threshold(sizes):
    """A guard that compares with None, and is given an empty list, loses classes."""
    net, optimizer, engine = built(
        dict(method="srigl", sparsity=0.7, ablation_threshold=0.95, update_every=1), sizes, lr=0.1
    )
    steps(net, optimizer, 25)
    assert engine.tensors[-1].active().any(1).all()
    asked, its_optimizer, engine = built(
        dict(
            method="srigl", sparsity=0.7, ablation_threshold=0.95, update_every=1, never_ablate=()
        ),
        sizes,
        lr=0.1,
    )
    steps(asked, its_optimizer, 25)
    assert not engine.tensors[-1].active().any(1).all()


def test_truncated_rows_keep_their_largest_weights():
    """Sorting a bool mask instead of magnitudes keeps arbitrary ones.

    Four neurons have all twelve inputs; four come back, and leave six inputs to each.
    """
    _, _, engine = built(
        dict(method="srigl", sparsity=0.5, distribution="uniform", drop_fraction=0.125), (12, 8, 4)
    )
    first, last = engine.tensors
    rich = torch.arange(8).unsqueeze(1) < 4
    first.start(rich.expand(8, 12))
    generator = torch.Generator().manual_seed(0)
    ranks = torch.stack([torch.randperm(12, generator=generator) for _ in range(8)])
    with torch.no_grad():
        first.weight.copy_((ranks + 1) * first.mask)
    for tensor, value in ((first, (~rich).float().expand(8, 12)), (last, last.mask)):
        tensor.tap.arm(True)
        tensor.tap.value = value.clone()
    # Each poor neuron has a salient position, so that all of them stay.
    first.tap.value[4:, 0] = 2.0
    engine.config = engine.updater.config = replace(engine.config, ablation_threshold=1)
    engine.update()
    assert first.active().sum(1).tolist() == [6] * 8
    assert torch.equal(first.active()[:4], ranks[:4] >= 6)


def test_the_threshold_reaches_the_updater():
    dead = []
    for gamma in (1e-9, 0.95):
        net, optimizer, engine = built(
            dict(method="srigl", sparsity=0.6, ablation_threshold=gamma, update_every=2),
            (12, 24, 4),
        )
        steps(net, optimizer, 2)
        dead.append(int((~engine.tensors[0].active().any(1)).sum()))
    assert dead[0] < dead[1]


def test_as_many_gradients_are_salient_as_weights_are_pruned():
    """Counting the n_keep largest gradients, not n_prune, would save the first neuron."""
    _, _, engine = built(
        dict(method="srigl", sparsity=0.5, distribution="uniform", drop_fraction=0.125), (12, 8, 4)
    )
    first, last = engine.tensors
    with torch.no_grad():
        first.weight.copy_(torch.arange(1.0, 9.0).unsqueeze(1) * first.mask)
    gradient = torch.ones_like(first.weight)
    gradient[0], gradient[7] = 5.0, 10.0
    for tensor, value in ((first, gradient), (last, torch.zeros_like(last.weight))):
        tensor.tap.arm(True)
        tensor.tap.value = value
    engine.update()
    assert first.active().any(1).tolist() == [False] + [True] * 7


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_an_ablated_neuron_has_no_bias_that_trains(decay):
    torch.manual_seed(0)
    net = mlp(12, 24, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=decay)
    engine = sparsify(
        net,
        SparseConfig(
            method="srigl", sparsity=0.8, ablation_threshold=0.9, ablation_sticky=True,
            update_every=4,
        ),
        optimizer,
    )  # fmt: skip
    nn.init.constant_(net[0].bias, 1.0)
    engine.tensors[0].weight.data[:12] *= 0.01
    steps(net, optimizer, 4)
    dead = ~engine.tensors[0].active().any(1)
    assert bool(dead.any())
    before = net[0].bias.detach().clone()
    steps(net, optimizer, 3, start=4)
    assert torch.equal(net[0].bias[dead], before[dead])
    assert not net[0].bias.grad[dead].any()
    assert not torch.equal(net[0].bias[~dead], before[~dead])
    assert decay or not optimizer.state[net[0].bias]["momentum_buffer"][dead].any()


def test_the_bias_of_a_neuron_that_comes_back_starts_without_moments():
    torch.manual_seed(0)
    net = mlp(12, 8, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    engine = sparsify(net, SparseConfig(method="srigl", sparsity=0.6, update_every=100), optimizer)
    nn.init.constant_(net[0].bias, 1.0)
    tensor = engine.tensors[0]
    keep = tensor.active()
    keep[:3] = False
    engine._apply(tensor, Delta.between(tensor.active(), keep))
    steps(net, optimizer, 3)
    moments = optimizer.state[net[0].bias]["momentum_buffer"]
    assert bool(moments[:3].any())
    keep[:3, :4] = True
    engine._apply(tensor, Delta.between(tensor.active(), keep))
    assert not moments[:3].any() and bool(moments[3:].any())


@pytest.mark.parametrize("method", ["srigl", "rigl", "set"])
def test_layers_without_bias_are_layers_too(method):
    torch.manual_seed(0)
    net = mlp(12, 16, 4, bias=False)
    optimizer = torch.optim.Adam(net.parameters())
    engine = sparsify(net, SparseConfig(method=method, sparsity=0.7, update_every=1), optimizer)
    steps(net, optimizer, 4)
    assert engine.updates == 4


def test_constant_fan_in_of_a_small_control_network_holds_at_99_percent():
    """Budgets rounded down layer by layer would leave neurons of a fan-in of zero."""
    for sparsity in (0.9, 0.95, 0.99):
        net = mlp(17, 256, 256, 6)
        engine = sparsify(net, SparseConfig(method="srigl", sparsity=sparsity))
        assert all(bool(t.active().any(1).all()) for t in engine.tensors)
        total = sum(t.weight.numel() for t in engine.tensors)
        lost = round((1 - sparsity) * total) - sum(t.count() for t in engine.tensors)
        assert 0 <= lost < 256


# State of the optimizer ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam"])
@pytest.mark.parametrize("method", ["rigl", "srigl", "set"])
def test_every_moment_of_an_inactive_weight_is_zero(make, method):
    """Masking `momentum_buffer` only leaves AdamW's exp_avg at inactive weights."""
    torch.manual_seed(0)
    net = mlp(12, 16, 16, 4)
    extra = dict(momentum=0.9) if make in ("SGD", "RMSprop") else {}
    optimizer = getattr(torch.optim, make)(net.parameters(), lr=1e-2, **extra)
    engine = sparsify(net, SparseConfig(method=method, sparsity=0.8, update_every=2), optimizer)
    steps(net, optimizer, 7)
    for tensor in engine.tensors:
        found = moments(optimizer, tensor)
        assert found and not any(m[tensor.mask == 0].any() for m in found)
        assert any(m[tensor.mask != 0].any() for m in found)


def test_moments_of_surviving_weights_stay_in_their_places():
    """Stored slots that are sorted again, but not their moments, misalign momentum."""
    net, optimizer, engine = built(dict(method="rigl", sparsity=0.7, update_every=100), lr=1e-2)
    train(net, optimizer, range(5))
    before = [(t.active(), [m.clone() for m in moments(optimizer, t)]) for t in engine.tensors]
    for tensor in engine.tensors:
        tensor.tap.arm(True)
        tensor.tap.value = torch.randn_like(tensor.weight)
    engine.update()
    for tensor, (was, old) in zip(engine.tensors, before, strict=True):
        stays = (was & tensor.active()).reshape(tensor.weight.shape)
        assert not torch.equal(was, tensor.active())
        for m, o in zip(moments(optimizer, tensor), old, strict=True):
            assert torch.equal(m[stays], o[stays])
            assert not m[~stays].any()


def test_grown_weights_start_at_zero_and_do_not_revive_old_values():
    net, optimizer, engine = built(dict(method="rigl", sparsity=0.5, update_every=3), lr=0.05)
    grown = []
    engine.observers.append(
        lambda _, deltas: grown.extend(
            float(t.values().reshape(-1)[deltas[t.name].grown].abs().sum()) for t in engine.tensors
        )
    )
    with torch.no_grad():
        for tensor in engine.tensors:
            tensor.weight.add_(1 - tensor.mask)
    for tensor in engine.tensors:
        tensor.start(tensor.active())
    train(net, optimizer, range(9))
    assert len(grown) == 9 and not any(grown)


# Density ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [m for m in METHODS if METHODS[m].growth == ("random", "unfired")]
)
def test_random_growth_grows_as_many_as_were_dropped(method):
    """Bernoulli draws do so on average only."""
    net, optimizer, engine = built(dict(method=method, sparsity=0.7, update_every=1))
    before = [t.count() for t in engine.tensors]
    for step in range(10):
        train(net, optimizer, range(step, step + 1))
        assert [t.count() for t in engine.tensors] == before


def test_an_active_weight_that_is_zero_stays_active():
    """The mask says what is active; a structure read off `w != 0` forgets such weights."""
    for method in ("rigl", "srigl"):
        net, optimizer, engine = built(
            dict(method=method, sparsity=0.6, ablation=False, update_every=5)
        )
        for tensor in engine.tensors:
            tensor.weight.data.zero_()
        counts = [t.count() for t in engine.tensors]
        train(net, optimizer, range(10))
        assert [t.count() for t in engine.tensors] == counts and engine.updates == 2
        assert engine.tensors[-1].weight.count_nonzero() > 0


def test_erk_spends_its_budget_where_layers_saturate():
    """Clipping densities at one, without sharing the rest again, misses the budget."""
    net = mlp(17, 256, 256, 6)
    engine = sparsify(net, SparseConfig(method="static", sparsity=0.9, distribution="erk"))
    total = sum(t.weight.numel() for t in engine.tensors)
    densities = [t.count() / t.weight.numel() for t in engine.tensors]
    assert densities == pytest.approx([0.448, 0.056, 1.0], abs=1e-3)
    assert sum(t.count() for t in engine.tensors) == round(0.1 * total)


def test_an_optimizer_that_mixes_weights_does_not_leak():
    """The history of LBFGS moves weights whose gradient is zero."""
    torch.manual_seed(0)
    net = mlp(12, 16, 4)
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=4)
    engine = sparsify(net, SparseConfig(method="rigl", sparsity=0.6, update_every=2), optimizer)
    for step in range(8):
        x = torch.randn(6, 12, generator=torch.Generator().manual_seed(step))

        def closure(x=x):
            optimizer.zero_grad()
            loss = (net(x) - 0.5).pow(2).mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        assert not any(t.weight[t.mask == 0].any() for t in engine.tensors)
    assert engine.updates == 4


@pytest.mark.parametrize("method", ["gmp", "granet", "gse"])
def test_ranking_over_the_network_leaves_no_layer_empty(method):
    """A layer whose weights and gradients are all the smallest would lose every one of them."""
    torch.manual_seed(0)
    net = mlp(12, 16, 16, 4)
    net[0].weight.data *= 1e-6
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
    fields = dict(method=method, scope="global", sparsity=0.9, update_every=2, horizon=20)
    engine = sparsify(net, SparseConfig(**fields, drop_fraction=0.5), optimizer)
    for step in range(20):
        optimizer.zero_grad()
        x = torch.randn((6, 12), generator=torch.Generator().manual_seed(step))
        (net(1e-6 * x) - 0.5).pow(2).mean().backward()
        optimizer.step()
    assert engine.tensors[0].count() >= 1
    assert engine.sparsity == pytest.approx(0.9, abs=1e-3)


def test_blocks_at_sparsity_zero_are_a_dense_layer():
    engine = sparsify(nn.Linear(10, 10), SparseConfig(method="set", structure="4x4", sparsity=0.0))
    assert engine.tensors[0].count() == 100


def test_a_pattern_that_does_not_divide_a_row_is_feasible():
    engine = sparsify(mlp(17, 8, 4), SparseConfig(method="set", structure="2:4", sparsity=0.5))
    assert [t.count() for t in engine.tensors] == [8 * 9, 4 * 4]


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_a_pattern_of_n_in_m_is_not_frozen(method):
    """A top-k that ignores the drop can only choose what it had."""
    net, optimizer, engine = built(
        dict(method=method, structure="2:4", sparsity=0.5, update_every=1), (12, 16, 4)
    )
    before = [t.active() for t in engine.tensors]
    steps(net, optimizer, 3)
    for tensor, was in zip(engine.tensors, before, strict=True):
        assert not torch.equal(tensor.active(), was)
        assert bool((tensor.active().reshape(-1, 4).sum(1) == 2).all())


def test_any_memory_layout_will_do():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    masks = []
    for net in (plain, last):
        optimizer = torch.optim.Adam(net.parameters())
        fields = dict(method="rigl", sparsity=0.6, update_every=1, optimizer_state="layer_mean")
        engine = sparsify(net, SparseConfig(**fields), optimizer)
        steps(net, optimizer, 3, shape=(2, 3, 6, 6))
        assert engine.updates == 3
        masks.append([t.active() for t in engine.tensors])
        assert not any(t.weight[t.mask == 0].any() for t in engine.tensors)
    assert all(map(torch.equal, *masks))


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


# Schedule -----------------------------------------------------------------------------------------


def test_the_first_update_is_not_at_step_zero_and_none_is_at_the_end():
    net, optimizer, engine = built(
        dict(method="set", sparsity=0.6, update_every=5, horizon=20, stop_at=0.75)
    )
    when = []
    engine.observers.append(lambda moment, _: when.append(moment.step))
    steps(net, optimizer, 20)
    assert when == [5, 10]


def test_a_skipped_step_moves_no_weight_and_the_topology_only():
    for method in ("rigl", "srigl", "set"):
        net, optimizer, engine = built(
            dict(method=method, sparsity=0.6, update_every=3, skip_step=True)
        )
        steps(net, optimizer, 2)
        before, masks = (
            [t.values().clone() for t in engine.tensors],
            [t.active() for t in engine.tensors],
        )
        bias = net[0].bias.detach().clone()
        steps(net, optimizer, 1, start=2)
        assert engine.steps == 3 and engine.updates == 1 and torch.equal(bias, net[0].bias)
        for tensor, old, mask in zip(engine.tensors, before, masks, strict=True):
            assert not torch.equal(mask, tensor.active())
            stays = mask & tensor.active()
            assert torch.equal(tensor.values()[stays], old[stays])
        steps(net, optimizer, 1, start=3)
        assert not torch.equal(bias, net[0].bias)


# Latent weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
])  # fmt: skip
def test_weights_that_topkast_does_not_train_keep_their_bits(make):
    """Momentum from the time when they were trained, and decay, would go on moving them."""
    torch.manual_seed(0)
    net = mlp(12, 16, 4)
    optimizer = make(net.parameters())
    fields = dict(method="topkast", sparsity=0.8, backward_sparsity=0.6, update_every=3)
    engine = sparsify(net, SparseConfig(**fields), optimizer)
    steps(net, optimizer, 6)
    outside = [t.companion("backward") == 0 for t in engine.tensors]
    before = [t.weight.detach().clone() for t in engine.tensors]
    steps(net, optimizer, 2, start=6)
    for tensor, where, old in zip(engine.tensors, outside, before, strict=True):
        assert bool(where.any()) and torch.equal(tensor.weight[where], old[where])
        assert not torch.equal(tensor.weight[~where], old[~where])


@pytest.mark.parametrize("method", ["topkast", "sr_ste"])
def test_transformers_apply_masks_in_evaluation_too(method):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    net = nn.TransformerEncoder(layer, 2)
    fields = dict(method=method, sparsity=0.5, structure="2:4" if method == "sr_ste" else None)
    sparsify(net, SparseConfig(**fields))
    x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with_grad = net(x, src_key_padding_mask=padding).detach()
    net.eval()
    with torch.no_grad():
        evaluated = net(x, src_key_padding_mask=padding)
    torch.testing.assert_close(evaluated[~padding], with_grad[~padding])


def test_what_was_active_first_counts_as_seen():
    for method in ("topkast", "sr_ste", "rigl"):
        net = mlp(12, 16, 4)
        structure = "1:4" if method == "sr_ste" else None
        config = SparseConfig(method=method, structure=structure, sparsity=0.75)
        for tensor in sparsify(net, config).tensors:
            assert torch.equal(tensor.seen(), tensor.active())


# Whatever a model is made of ----------------------------------------------------------------------


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shared(self.shared(x).relu()).relu())


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_layers_are_tapped_in_full(reentrant):
    values = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        net = Twice()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        engine = sparsify(net, SparseConfig(method="rigl", sparsity=0.5, update_every=1), optimizer)
        x = torch.randn(4, 8, requires_grad=True)
        if checkpointed:
            out = torch.utils.checkpoint.checkpoint(net, x, use_reentrant=reentrant)
        else:
            out = net(x)
        out.pow(2).sum().backward()
        values.append([t.tap.value for t in engine.tensors])
    for plain, ours in zip(*values, strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of the compiler itself
def test_a_compiled_network_trains_the_same():
    results = []
    for compiled in (False, True):
        net, optimizer, engine = built(dict(method="rigl", sparsity=0.6, update_every=3))
        steps(torch.compile(net, backend="eager") if compiled else net, optimizer, 7)
        assert engine.updates == 2
        results.append([v for k, v in net.state_dict().items()])
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["srigl", "snfs", "mest", "gse"])
def test_a_network_may_change_its_precision(dtype, method):
    net, optimizer, engine = built(dict(method=method, sparsity=0.6, update_every=2), lr=1e-3)
    steps(net, optimizer, 3)
    before = [t.count() for t in engine.tensors]
    net.to(dtype)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    engine.attach(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        (net(torch.randn(4, 12, dtype=dtype)) - 0.5).pow(2).mean().backward()
        optimizer.step()
    assert engine.steps == 6 and engine.updates == 3
    assert sum(t.count() for t in engine.tensors) <= sum(before)
    assert all(t.weight.dtype == dtype and not t.weight[t.mask == 0].any() for t in engine.tensors)


def test_detached_taps_watch_nothing():
    net, _, engine = built(dict(method="rigl", update_every=1))
    assert engine.tensors[0].tap.armed
    engine.detach()
    net(torch.randn(2, 12)).sum().backward()
    assert engine.tensors[0].tap.value is None and not math.isnan(engine.sparsity)
