"""Known faults of published implementations: which weights are active."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.registry import METHODS
from sparse_core.weights.delta import Delta
from tests.sparse_core.networks import built, mlp, steps, train

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
            update_every=4, min_fan_in=1,
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
    engine.apply(tensor, Delta.between(tensor.active(), keep))
    steps(net, optimizer, 3)
    moments = optimizer.state[net[0].bias]["momentum_buffer"]
    assert bool(moments[:3].any())
    keep[:3, :4] = True
    engine.apply(tensor, Delta.between(tensor.active(), keep))
    assert not moments[:3].any() and bool(moments[3:].any())


@pytest.mark.parametrize("method", ["srigl", "rigl", "set"])
def test_layers_without_bias_are_layers_too(method):
    torch.manual_seed(0)
    net = mlp(12, 16, 4, bias=False)
    optimizer = torch.optim.Adam(net.parameters())
    config = SparseConfig(method=method, sparsity=0.7, update_every=1, min_fan_in=1)
    engine = sparsify(net, config, optimizer)
    steps(net, optimizer, 4)
    assert engine.updates == 4


@pytest.mark.filterwarnings("ignore:Constant fan-in at sparsity=0.99")
def test_constant_fan_in_of_a_small_control_network_holds_at_99_percent():
    """Budgets rounded down layer by layer would leave neurons of a fan-in of zero."""
    for sparsity in (0.9, 0.95, 0.99):
        net = mlp(17, 256, 256, 6)
        engine = sparsify(net, SparseConfig(method="srigl", sparsity=sparsity))
        assert all(bool(t.active().any(1).all()) for t in engine.tensors)
        total = sum(t.weight.numel() for t in engine.tensors)
        assert sum(t.count() for t in engine.tensors) == round((1 - sparsity) * total)


# Density ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [m for m in METHODS if "random" in METHODS[m].growth and not METHODS[m].expands]
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
