"""Neuroplastic Expansion: one update by hand, exact growth, both backends."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.updaters.scene import Moment
from sparse_core.weights.activity import Activity
from tests.sparse_core.networks import built, mlp, train


def one_layer(threshold=0.0):
    """Four neurons of which the last fires for no sample, two weights each, room for 14."""
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    config = SparseConfig(
        method="ne", sparsity=0.125, initial_sparsity=0.5, dense=("output",), horizon=100,
        dormant_threshold=threshold,
    )  # fmt: skip
    engine = sparsify(net, config)
    tensor = engine.tensors[0]
    tensor.start(torch.tensor([[1, 1, 0, 0]] * 4).bool())
    with torch.no_grad():
        tensor.weight.copy_(tensor.mask * torch.tensor([[5.0], [4.0], [3.0], [2.0]]))
        tensor.weight[3, 1] = 1.0
        net[0].bias.copy_(torch.tensor([0.0, 0.0, 0.0, -99.0]))
    tensor.tap.value = torch.tensor(
        [[0, 0, 9.0, 8.0], [0, 0, 7.0, 6.0], [0, 0, 5.0, 4.0], [0.5, 0.4, 0.3, 0.2]]
    )
    seen = Activity(net)
    seen.watch(True)
    net(torch.ones(3, 4))
    return engine, tensor, seen


def update(engine, tensor, seen, pruned):
    moment = Moment(1, 0, 0.5, pruned=pruned, activity=seen)
    delta = engine.updater.propose([tensor], moment)[0]
    tensor.apply(delta)
    return delta


def test_weights_of_silent_neurons_go_and_the_steepest_grow():
    # From 8 to 8 + 6 / 2 = 11: a net growth of 3 allows 0.4 / 0.6 x 3 = 2 weights to go, which are
    # those of the silent neuron; 5 grow where the gradient is largest.
    engine, tensor, seen = one_layer()
    assert (tensor.initial_budget, tensor.budget) == (8, 14)
    delta = update(engine, tensor, seen, 0.5)
    assert delta.dropped.tolist() == [12, 13] and delta.ablated.tolist() == [3]
    assert delta.grown.tolist() == [2, 3, 6, 7, 10]


def test_no_more_go_than_growth_allows_the_smallest_first():
    # From 8 to 10: 0.4 / 0.6 x 2 = 1 weight may go, the smaller one of the silent neuron.
    engine, tensor, seen = one_layer()
    delta = update(engine, tensor, seen, 1 / 3)
    assert delta.dropped.tolist() == [13] and delta.grown.tolist() == [2, 3, 6]


def test_without_growth_nothing_moves():
    engine, tensor, seen = one_layer()
    delta = update(engine, tensor, seen, 0.0)
    assert not delta.moved.numel()


def test_the_threshold_says_who_is_dormant():
    # Activities 10, 8, 6 and 0: the third has 6 / 6 = 1, the second 8 / 6.
    engine, tensor, seen = one_layer(threshold=1.0)
    delta = update(engine, tensor, seen, 0.5)
    assert delta.dropped.tolist() == [12, 13]  # 1 and 2 are the smallest of 1, 2, 3, 3


def test_a_layer_grows_to_its_budget_and_stops():
    fields = dict(method="ne", sparsity=0.25, initial_sparsity=0.8, density_curve="annealed")
    net, optimizer, engine = built(fields | dict(update_every=2, horizon=20))
    counts = [[t.count() for t in engine.tensors]]
    engine.observers.append(lambda *_: counts.append([t.count() for t in engine.tensors]))
    train(net, optimizer, range(20))
    assert counts == sorted(counts) and counts[-1] == [t.budget for t in engine.tensors]
    assert engine.sparsity == pytest.approx(0.25, abs=0.01) and engine.updates == 8
    assert not any(m._forward_hooks for m in net.modules())


def test_masked_and_condensed_expand_alike():
    masks = {}
    for backend in ("masked", "condensed"):
        torch.manual_seed(0)
        net = mlp(12, 16, 16, 4).double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        config = SparseConfig(
            method="ne", sparsity=0.5, initial_sparsity=0.9, update_every=2, horizon=12,
            stop_at=1.0, dormant_threshold=0.5, backend=backend,
        )  # fmt: skip
        engine = sparsify(net, config, optimizer)
        dropped = []
        engine.observers.append(
            lambda _, d, kept=dropped: kept.append(
                sum(delta.dropped.numel() for delta in d.values())
            )
        )
        train(net, optimizer, range(12))
        assert sum(dropped) > 0
        masks[backend] = [tensor.active() for tensor in engine.tensors]
    assert all(map(torch.equal, masks["masked"], masks["condensed"]))


def test_what_does_not_grow_is_refused():
    with pytest.raises(ValueError, match=r"initial_sparsity=0.2: must be at least .* 'ne' grows"):
        SparseConfig(method="ne", sparsity=0.5, initial_sparsity=0.2)
    with pytest.raises(ValueError, match=r"structure='2:4': method 'ne' needs unstructured"):
        SparseConfig(method="ne", sparsity=0.5, structure="2:4")
    assert SparseConfig(method="ne", sparsity=0.5).first_sparsity == 0.75
