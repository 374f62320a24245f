"""Updates where little can move: single weights, full layers, places that are taken."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.naming import growth_rule_named
from sparse_core.updaters.scene import Moment
from tests.sparse_core.updaters.test_updaters import after, bools, network, one_layer, proposed


def test_gse_drops_as_many_as_it_grows_where_layers_have_one_weight_each():
    layer = (["x..."], [[1.0, 0, 0, 0]], [[1.0] * 4])
    engine = network(layer, layer, method="gse", scope="global")
    engine.updater.grow_score = growth_rule_named("gradient")
    for delta in proposed(engine, 0.5):
        assert not len(delta.moved)


def test_gse_takes_nothing_from_full_layers():
    engine = network(
        (["xx.."], [[5.0, 6, 0, 0]], [[1.0] * 4]),
        (["xxxx"], [[0.1, 0.2, 0.3, 0.4]], [[1.0] * 4]),
        method="gse",
        scope="global",
    )
    engine.updater.grow_score = growth_rule_named("gradient")
    engine.tensors[1].budget = engine.tensors[1].initial_budget = 4
    first, second = proposed(engine, 0.5)
    assert first.dropped.tolist() == [0] and first.grown.tolist() == [2]
    assert not len(second.moved)


def test_snfs_shares_by_the_mean_however_many_weights_a_layer_has():
    # Of 6 and 2 weights 3 and 1 go. Momentum of the active: 1 and 3 on average, 6 and 6 in sum.
    engine = network(
        (["xxxxxx......"], [[6.0, 5, 4, 3, 2, 1] + [0.0] * 6], [[1.0] * 12]),
        (["xx.........."], [[2.0, 1] + [0.0] * 10], [[3.0] * 12]),
        method="snfs",
        growth="gradient",
    )
    proposed(engine, 0.5)
    assert [tensor.count() for tensor in engine.tensors] == [3 + 1, 1 + 3]


def test_snfs_leaves_each_layer_one_of_its_weights():
    # Momentum of active weights alone is shared by, of inactive ones alone grown by.
    engine = network(
        (["xxx..."], [[1.0, 3, 2, 0, 0, 0]], [[0.0, 0, 0, 1, 1, 1]]),
        (["xxx..."], [[1.0, 3, 2, 0, 0, 0]], [[1.0, 1, 1, 2, 2, 2]]),
        method="snfs",
        growth="gradient",
    )
    proposed(engine, 1.0)
    first, second = (tensor.active() for tensor in engine.tensors)
    assert torch.equal(first, bools([".x...."]))
    assert torch.equal(second, bools(["xx.xxx"]))


def test_snfs_gives_a_layer_no_more_than_it_has_places_beside_earlier_tasks():
    # 2 of 4 go in each; all momentum is in the first, which has 1 place besides its own two.
    weight = [[4.0, 3, 2, 1, 0, 0, 0, 0]]
    engine = network(
        (["xxxx...."], weight, [[1.0] * 8]),
        (["xxxx...."], weight, [[0.0] * 8]),
        method="snfs",
        growth="gradient",
    )
    engine.tensors[0].protect(bools([".....xxx"]))
    proposed(engine, 0.5)
    first, second = (tensor.active() for tensor in engine.tensors)
    assert torch.equal(first, bools(["xxxxx..."]))
    assert second.sum() == 3


def test_mest_drops_its_fraction_of_the_budget_and_all_that_is_beyond():
    # Budget 4, 6 are held: a quarter of 4 goes and the 2 beyond, the 3 largest stay.
    engine, tensor = one_layer(
        mask=["xxxxxx.."],
        weight=[[6.0, 5, 4, 3, 2, 1, 0, 0]],
        gradient=[[0.0, 0, 0, 0, 0, 0, 1, 2]],
        budget=4,
        method="mest",
        drop="magnitude",
        slack=0.5,
        drop_fraction=0.25,
    )
    engine.updater.grow_score = growth_rule_named("gradient")
    assert torch.equal(after(engine, tensor, 0.25, last=True), bools(["xxx....x"]))


def test_mest_moves_nothing_and_holds_no_more_with_a_drop_fraction_of_zero():
    engine, tensor = one_layer(
        mask=["xxx..."],
        weight=[[3.0, 2, 1, 0, 0, 0]],
        gradient=[[0.0] * 6],
        method="mest",
        slack=0.5,
        drop_fraction=0.0,
    )
    assert torch.equal(after(engine, tensor, 0.0), bools(["xxx..."]))


def test_topkast_trains_half_of_what_it_does_not_use_unless_told_otherwise():
    engine, tensor = one_layer(
        mask=["xx......"],
        weight=[[0.1, 0.2, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]],
        gradient=None,
        method="topkast",
    )
    assert torch.equal(after(engine, tensor, 0.3), bools(["..xx...."]))
    assert tensor.companion("backward").tolist() == [[0, 0, 1, 1, 1, 1, 1, 0]]


def test_topkast_trains_what_it_uses_where_a_layer_is_denser_than_is_asked_for():
    engine, tensor = one_layer(
        mask=["xxxx...."],
        weight=[[0.1, 0.2, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]],
        gradient=None,
        method="topkast",
        sparsity=0.8,
        backward_sparsity=0.75,
    )
    assert torch.equal(after(engine, tensor, 0.3), bools(["..xxxx.."]))
    assert torch.equal(tensor.companion("backward"), tensor.mask)


@pytest.mark.parametrize("method", ["topkast", "gmp", "edge_popup"])
def test_the_budget_is_spread_over_the_neurons_that_are_open(method):
    engine, tensor = one_layer(
        mask=["....", "xxxx", "xxxx", "xxxx"],
        weight=[[1.0, 2.0, 3.0, 4.0]] * 4,
        gradient=None,
        budget=6,
        method=method,
        structure="constant_fan_in",
    )
    tensor.protect(bools(["xxxx", "....", "....", "...."]))
    tensor.lend(None, torch.tensor([True, False, False, False]))
    assert after(engine, tensor, 0.0, pruned=1.0).sum(1).tolist() == [0, 2, 2, 2]
    if method == "topkast":
        assert tensor.companion("backward").count_nonzero(1).tolist() == [0, 4, 4, 3]


def test_pruning_from_a_sparse_start_goes_down_from_there():
    # From 6 weights to 2: half-way 4 are left.
    engine, tensor = one_layer(
        mask=["xxxxxx.."],
        weight=[[6.0, 5, 4, 3, 2, 1, 0, 0]],
        gradient=None,
        budget=2,
        method="gmp",
    )
    tensor.initial_budget = 6
    assert torch.equal(after(engine, tensor, 0.0, pruned=0.5), bools(["xxxx...."]))


def test_pruning_over_all_layers_leaves_each_its_largest_weight():
    engine = network(
        (["xxxx"], [[5.0, 6, 7, 8]], [[0.0] * 4]),
        (["xxxx"], [[0.1, 0.4, 0.3, 0.2]], [[0.0] * 4]),
        method="gmp",
        scope="global",
        horizon=100,
    )
    for tensor in engine.tensors:
        tensor.budget = 2
    first, second = engine.updater.propose(engine.tensors, Moment(1, 0, 0.0, pruned=1.0))
    assert first.dropped.tolist() == [0]
    assert second.dropped.tolist() == [0, 2, 3]


def test_pruning_keeps_an_active_zero_and_not_an_inactive_one():
    engine, tensor = one_layer(
        mask=["..xx"], weight=[[0.0, 0, 0, 5]], gradient=None, budget=2, method="gmp"
    )
    assert torch.equal(after(engine, tensor, 0.0), bools(["..xx"]))


def test_what_is_dropped_has_no_gradient_left():
    engine, tensor = one_layer(
        mask=["xx.."], weight=[[0.9, -0.1, 0, 0]], gradient=[[0.0, 0, 1, 2]], method="rigl"
    )
    tensor.weight.grad = torch.tensor([[3.0, 4, 0, 0]])
    assert torch.equal(after(engine, tensor, 0.5), bools(["x..x"]))
    assert tensor.weight.grad.tolist() == [[3, 0, 0, 0]]


def test_grown_weights_start_at_zero_whatever_was_written_there():
    engine, tensor = one_layer(
        mask=["xx.."], weight=[[0.9, -0.1, 0, 0]], gradient=[[0.0, 0, 1, 2]], method="rigl"
    )
    with torch.no_grad():
        tensor.weight[0, 3] = 7
    assert torch.equal(after(engine, tensor, 0.5), bools(["x..x"]))
    assert tensor.values().tolist() == [[pytest.approx(0.9), 0, 0, 0]]


def test_topkast_leaves_what_it_does_not_train_as_it_is():
    engine, tensor = one_layer(
        mask=["xx......"],
        weight=[[0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]],
        gradient=None,
        method="topkast",
    )
    engine.updater.after_update([tensor])
    optimizer = torch.optim.AdamW(engine.root.parameters(), lr=0.1, weight_decay=0.1)
    engine.attach(optimizer)
    before = tensor.values().clone()
    engine.root(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    assert (tensor.values() == before).tolist() == [[False] * 5 + [True] * 3]


def test_an_embedding_is_full_without_its_row_of_padding():
    net = nn.Sequential(nn.Embedding(5, 4, padding_idx=1))
    engine = sparsify(net, SparseConfig("set", sparsity=0.5, embeddings=True))
    tensor = engine.tensors[0]
    for budget in (15, 16):
        tensor.budget = tensor.initial_budget = budget
        assert tensor.full is (budget == 16)


def test_a_frozen_layer_is_left_alone():
    engine, tensor = one_layer(
        mask=["xx..", "xx.."],
        weight=[[0.9, 0.1, 0, 0], [0.2, 0.8, 0, 0]],
        gradient=None,
        method="set",
    )
    tensor.weight.requires_grad_(False)
    assert torch.equal(after(engine, tensor, 0.5), bools(["xx..", "xx.."]))
