"""One update of each method on a matrix small enough to follow by hand."""

from unittest.mock import patch

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.naming import growth_rule_named
from sparse_core.updaters.ablation import least_lanes, live_lanes, threshold
from sparse_core.updaters.scene import Moment
from sparse_core.updaters.snfs import share
from sparse_core.weights.conversion import condensed_from


def bools(rows):
    return torch.tensor([[c == "x" for c in row] for row in rows])


def one_layer(mask, weight, gradient, budget=None, role="hidden", **fields):
    """An engine with one sparse layer in a given state; the update can be asked for directly."""
    mask, weight = bools(mask), torch.tensor(weight)
    net = nn.Sequential(nn.Linear(*mask.shape[::-1]))
    fields = {"sparsity": 0.5, "horizon": 1000, **fields}
    engine = sparsify(net, SparseConfig(**fields), roles={"0": role})
    tensor = engine.tensors[0]
    tensor.budget = int(mask.sum()) if budget is None else budget
    tensor.start(mask)
    with torch.no_grad():
        tensor.weight.copy_(weight * (1 if tensor.latent else mask))
    tensor.tap.value = None if gradient is None else torch.tensor(gradient)
    return engine, tensor


def after(engine, tensor, fraction, **moment):
    delta = engine.updater.propose([tensor], Moment(1, 0, fraction, **moment))[0]
    tensor.apply(delta)
    engine.updater.after_update([tensor])
    return tensor.active()


def test_rigl_drops_the_smallest_and_grows_the_steepest():
    engine, tensor = one_layer(
        mask=["xx..", "xx.."],
        weight=[[0.9, -0.1, 0, 0], [0.2, -0.8, 0, 0]],
        gradient=[[9.0, 0.1, 0.5, -3.0], [0.0, 7.0, 2.0, 0.0]],
        method="rigl",
    )
    assert torch.equal(after(engine, tensor, 0.5), bools(["x..x", ".xx."]))
    torch.testing.assert_close(tensor.values(), torch.tensor([[0.9, 0, 0, 0], [0, -0.8, 0, 0]]))


def test_a_weight_that_is_dropped_and_grown_at_once_keeps_its_value():
    engine, tensor = one_layer(
        mask=["xx.."], weight=[[0.9, -0.1, 0, 0]], gradient=[[0.0, 5.0, 1.0, 2.0]], method="rigl"
    )
    assert torch.equal(after(engine, tensor, 0.5), bools(["xx.."]))
    assert tensor.values()[0, 1] == pytest.approx(-0.1)


def test_set_keeps_the_largest_and_the_count():
    engine, tensor = one_layer(
        mask=["xxx...", "xxx..."],
        weight=[[3.0, 1.0, 2.0, 0, 0, 0], [6.0, 5.0, 4.0, 0, 0, 0]],
        gradient=None,
        method="set",
    )
    moved = after(engine, tensor, 0.34)
    assert int(moved.sum()) == 6
    assert bool(moved[0, 0]) and bool(moved[1, :3].all())


def test_srigl_step_by_step():
    # 4 neurons of fan-in 2, 8 weights; alpha = 0.25: n_prune = 2, n_keep = 6.
    # Salient: weights 9 8 7 6 5 4, inactive positions with gradients 9 and 8, both in row 0.
    # Counts: 4 2 2 0. gamma = 0.5 of k = 2: a neuron needs 1, row 3 is ablated; k' = 8 // 3 = 2,
    # and one more for rows 0 and 1. Row 0 keeps 9 8 and grows the 9; row 1 keeps 7 6 and grows the
    # 3; row 2 keeps 5 4.
    engine, tensor = one_layer(
        mask=["xx....", "..xx..", "xx....", "xx...."],
        weight=[
            [9.0, 8.0, 0, 0, 0, 0],
            [0, 0, 7.0, 6.0, 0, 0],
            [5.0, 4.0, 0, 0, 0, 0],
            [0.1, 0.2, 0, 0, 0, 0],
        ],
        gradient=[[50, 50, 9, 8, 0, 0], [0, 0, 0, 0, 3, 0], [0] * 6, [99, 99, 1, 1, 1, 1.0]],
        method="srigl",
        ablation_threshold=0.5,
    )
    expected = bools(["xxx...", "..xxx.", "xx....", "......"])
    assert torch.equal(after(engine, tensor, 0.25), expected)
    assert tensor.companion("live").tolist() == [True, True, True, False]


def test_srigl_gives_the_weights_of_ablated_neurons_to_the_others():
    # alpha = 0.5: n_prune = n_keep = 4. Salient: weights 9 8 7 6, gradients 5 4 5 4, in rows 0 1.
    # Rows 2 and 3 are ablated, k' = 8 // 2 = 4: rows grow to 4 by gradient, ties from the left.
    engine, tensor = one_layer(
        mask=["xx....", "..xx..", "xx....", "xx...."],
        weight=[
            [9.0, 8.0, 0, 0, 0, 0],
            [0, 0, 7.0, 6.0, 0, 0],
            [0.5, 0.4, 0, 0, 0, 0],
            [0.1, 0.2, 0, 0, 0, 0],
        ],
        gradient=[[0, 0, 1, 5, 4, 0], [1, 5, 0, 0, 0, 4], [0] * 6, [0.0] * 6],
        method="srigl",
        ablation_threshold=1,
    )
    expected = bools(["xx.xx.", ".xxx.x", "......", "......"])
    assert torch.equal(after(engine, tensor, 0.5), expected)


@pytest.mark.parametrize("backend", ["masked", "condensed", "blocks"])
def test_srigl_keeps_the_largest_weights_of_the_neurons_that_stay(backend):
    # alpha = .25: n_prune = 3, n_keep = 9. Row 3 has one salient weight, the 2, of the 2 that
    # gamma = .6 of k = 3 asks for, and is ablated: k' = 12 // 3 = 4. The 9 largest elsewhere are
    # all 9, so the .3 stays too and each row grows one.
    engine, tensor = one_layer(
        mask=["xxx..."] * 4,
        weight=[
            [10.0, 9, 8, 0, 0, 0],
            [7.0, 6, 5, 0, 0, 0],
            [4.0, 3, 0.3, 0, 0, 0],
            [2.0, 0.2, 0.1, 0, 0, 0],
        ],
        gradient=[[0, 0, 0, 7, 8, 9.0], [0, 0, 0, 1, 0, 2], [0, 0, 0, 4, 3, 2], [9, 9, 9, 1, 1, 1]],
        method="srigl",
        ablation_threshold=0.6,
    )
    if backend != "masked":
        tensor = condensed_from(tensor, 12)
        tensor.tap.value = torch.tensor(
            [[0, 0, 0, 7, 8, 9.0], [0, 0, 0, 1, 0, 2], [0, 0, 0, 4, 3, 2], [9, 9, 9, 1, 1, 1]]
        )
    with patch("sparse_core.weights.condensed.BLOCKS_ABOVE", 0 if backend == "blocks" else 1 << 24):
        mask = after(engine, tensor, 0.25)
    assert torch.equal(mask, bools(["xxx..x", "xxx..x", "xxxx..", "......"]))


def test_srigl_truncates_a_row_to_its_largest_weights():
    # 4 weights for 3 rows after a neuron came back, so the first has 2: rows keep their largest.
    engine, tensor = one_layer(
        mask=["xxx.", "x...", "...."],
        weight=[[1.0, 3.0, 2.0, 0], [4.0, 0, 0, 0], [0, 0, 0, 0.0]],
        gradient=[[0.0] * 4, [0.0] * 4, [0, 9, 8, 7.0]],
        budget=4,
        method="srigl",
        ablation_threshold=1,
    )
    assert torch.equal(after(engine, tensor, 0.25), bools([".xx.", "x...", ".x.."]))


def test_gradients_at_active_weights_are_not_salient():
    # Row 1's gradients are large at its own, small weights only: it is ablated all the same.
    engine, tensor = one_layer(
        mask=["xx..", "xx.."],
        weight=[[5.0, 6.0, 0, 0], [0.1, 0.2, 0, 0]],
        gradient=[[0, 0, 1.0, 2.0], [100.0, 100.0, 0, 0]],
        method="srigl",
        ablation_threshold=1,
    )
    assert torch.equal(after(engine, tensor, 0.5), bools(["xxxx", "...."]))


@pytest.mark.parametrize(
    ("role", "sticky", "ablates"), [("hidden", False, True), ("output", False, False)]
)
def test_output_neurons_are_never_ablated(role, sticky, ablates):
    engine, tensor = one_layer(
        mask=["xx..", "xx.."],
        weight=[[5.0, 6.0, 0, 0], [0.1, 0.2, 0, 0]],
        gradient=[[0, 0, 1.0, 2.0], [0, 0, 0, 0.0]],
        role=role,
        method="srigl",
        ablation_threshold=1,
        ablation_sticky=sticky,
    )
    assert bool((after(engine, tensor, 0.5).sum(1) == 0).any()) is ablates


@pytest.mark.parametrize(("sticky", "returns"), [(False, True), (True, False)])
def test_an_ablated_neuron_comes_back_unless_it_is_sticky(sticky, returns):
    engine, tensor = one_layer(
        mask=["xx..", "xx..", "...."],
        weight=[[5.0, 6.0, 0, 0], [3.0, 4.0, 0, 0], [0.0] * 4],
        gradient=[[0.0] * 4, [0.0] * 4, [9, 8, 0, 0.0]],
        method="srigl",
        ablation_threshold=1,
        ablation_sticky=sticky,
    )
    assert bool(after(engine, tensor, 0.5)[2].any()) is returns


def test_without_ablation_every_neuron_keeps_its_fan_in():
    engine, tensor = one_layer(
        mask=["xx..", "xx.."],
        weight=[[5.0, 6.0, 0, 0], [0.1, 0.2, 0, 0]],
        gradient=[[0, 0, 1.0, 2.0], [0, 0, 1.0, 0]],
        method="srigl",
        ablation=False,
    )
    assert torch.equal(after(engine, tensor, 0.5), bools(["xx..", "x.x."]))


def test_groups_drop_grow_and_are_ablated_together():
    # Groups (0 1) and (2 3). Column means of |w|: 1.5 2.5 and .1 .2; of |g| in group 0: . . .5 2.
    engine, tensor = one_layer(
        mask=["xx..", "xx..", "xx..", "xx.."],
        weight=[[1.0, 2.0, 0, 0], [2.0, 3.0, 0, 0], [0.1, 0.2, 0, 0], [0.1, 0.2, 0, 0]],
        gradient=[[0, 0, 1.0, 2.0], [0, 0, 0, 2.0], [0.0] * 4, [0.0] * 4],
        method="srigl",
        group=2,
        ablation_threshold=1,
    )
    assert torch.equal(after(engine, tensor, 0.5), bools(["xxxx", "xxxx", "....", "...."]))


def test_thresholds_of_ablation():
    assert [threshold(g, 10) for g in (0.3, 0.05, 1, 4.0)] == [3, 1, 1, 4]
    # Of 1 to 7 inputs .3 are .3 .6 .9 1.2 1.5 1.8 2.1; of 3.5 they are 1.05.
    assert [threshold(0.3, k) for k in (1, 2, 3, 4, 5, 6, 7, 3.5)] == [1, 1, 1, 2, 2, 2, 3, 2]
    assert threshold(0.1, 30) == 3 and threshold(0.7, 10) == 7
    salient = torch.tensor([3, 2, 1, 0])
    assert live_lanes(salient, 2, 1).tolist() == [True, True, False, False]
    assert live_lanes(salient, 4, 2).tolist() == [True, True, False, False]
    assert live_lanes(salient, 1, 4).tolist() == [True] * 4
    assert least_lanes(budget=20, rows=10, cols=10, group=1) == 2
    assert least_lanes(budget=20, rows=10, cols=5, group=4) == 2


def test_snfs_shares_by_momentum_within_the_room():
    assert share(10, [3.0, 1.0, 1.0], [100, 100, 100]) == [6, 2, 2]
    assert share(10, [8.0, 1.0, 1.0], [4, 100, 100]) == [4, 3, 3]
    assert share(5, [0.0, 0.0], [3, 9]) == [1, 4]
    assert share(0, [1.0], [0]) == [0]


def network(*layers, **fields):
    """An engine over linear layers, each given by its mask, weights and gradient."""
    net = nn.Sequential(*(nn.Linear(len(mask[0]), len(mask)) for mask, _, _ in layers))
    config = SparseConfig(sparsity=0.5, distribution="uniform", **fields)
    engine = sparsify(net, config)
    for tensor, (mask, weight, gradient) in zip(engine.tensors, layers, strict=True):
        tensor.start(bools(mask))
        tensor.write(torch.tensor(weight))
        tensor.tap.value = torch.tensor(gradient)
    return engine


def proposed(engine, fraction):
    deltas = engine.updater.propose(engine.tensors, Moment(1, 0, fraction))
    for tensor, delta in zip(engine.tensors, deltas, strict=True):
        tensor.apply(delta)
    return deltas


def test_snfs_moves_weights_to_the_layer_with_the_larger_momentum_of_active_weights():
    # Each drops the 2 smallest of 4. Momentum of the active: 1 and 3 on average, so of the 4 that
    # are free 1 goes to the first and 3 to the second, although inactive weights have it otherwise.
    weight = [[4.0, 3, 2, 1, 0, 0, 0, 0]]
    engine = network(
        (["xxxx...."], weight, [[1.0, 1, 1, 1, 9, 8, 7, 6]]),
        (["xxxx...."], weight, [[4.0, 4, 2, 2, 0.4, 0.3, 0.2, 0.1]]),
        method="snfs",
        growth="gradient",
    )
    proposed(engine, 0.5)
    first, second = (tensor.active() for tensor in engine.tensors)
    # In the second the two that were dropped have the largest momentum, 2, and stay.
    assert torch.equal(first, bools(["xx..x..."]))
    assert torch.equal(second, bools(["xxxxx..."]))


def test_mest_holds_more_between_updates_and_the_budget_at_the_end():
    state = dict(
        mask=["xxxx....", "xxxx...."],
        weight=torch.rand(2, 8).tolist(),
        gradient=torch.rand(2, 8).tolist(),
        method="mest",
        slack=0.25,
        drop_fraction=0.4,
    )
    engine, tensor = one_layer(**state)
    assert int(after(engine, tensor, 0.4).sum()) == 10
    assert int(after(engine, tensor, 0.2).sum()) == 9
    assert int(after(engine, tensor, 0.4).sum()) == 10
    assert int(after(engine, tensor, 0.4, last=True).sum()) == 8


def test_gse_leaves_each_layer_one_of_its_weights():
    # Half of 8 go. The 4 smallest are all of the second layer: it keeps the largest of them, and
    # the smallest of the first goes instead.
    engine = network(
        (["xxxx...."], [[5.0, 6, 7, 8, 0, 0, 0, 0]], [[1.0] * 8]),
        (["xxxx...."], [[0.1, 0.4, 0.3, 0.2, 0, 0, 0, 0]], [[2.0] * 8]),
        method="gse",
        scope="global",
    )
    engine.updater.grow_score = growth_rule_named("gradient")
    first, second = proposed(engine, 0.5)
    assert first.dropped.tolist() == [0] and first.grown.tolist() == []
    assert second.dropped.tolist() == [0, 2, 3] and second.grown.tolist() == [4, 5, 6, 7]


def test_gse_grows_first_and_protects_what_it_grew():
    engine, tensor = one_layer(
        mask=["xx..", "xx.."],
        weight=[[0.3, 0.4, 0, 0], [0.1, 0.2, 0, 0]],
        gradient=[[0.0] * 4, [0, 0, 5.0, 6.0]],
        method="gse",
    )
    seen = set()
    for update in range(40):
        delta = engine.updater.propose([tensor], Moment(1, update, 0.5))[0]
        assert len(delta.grown) == len(delta.dropped) <= 2
        if len(delta.dropped) == 2:
            assert delta.dropped.tolist() == [4, 5]
        seen |= set(delta.grown.tolist())
    assert seen == {2, 3, 6, 7}


def test_topkast_uses_the_largest_and_trains_more():
    engine, tensor = one_layer(
        mask=["xx.."],
        weight=[[0.5, 0.1, 0.4, 0.3]],
        gradient=None,
        method="topkast",
        backward_sparsity=0.25,
    )
    assert torch.equal(after(engine, tensor, 0.3), bools(["x.x."]))
    assert tensor.companion("backward").tolist() == [[1, 0, 1, 1]]
    torch.testing.assert_close(tensor.values(), torch.tensor([[0.5, 0.1, 0.4, 0.3]]))


def test_topkast_penalises_exploration():
    engine, tensor = one_layer(
        mask=["x.x."],
        weight=[[0.5, 0.1, 0.4, 0.3]],
        gradient=None,
        method="topkast",
        backward_sparsity=0.25,
        penalty=0.1,
    )
    tensor.companion("backward").copy_(torch.tensor([[1.0, 0, 1, 1]]))
    tensor.weight.grad = torch.zeros(1, 4)
    engine.updater.before_step([tensor])
    torch.testing.assert_close(tensor.weight.grad, torch.tensor([[0.05, 0, 0.04, 0.06]]))


def test_sr_ste_reaches_all_weights_and_decays_the_unused():
    engine, tensor = one_layer(
        mask=["xx.."],
        weight=[[0.5, 0.1, 0.4, 0.3]],
        gradient=None,
        method="sr_ste",
        structure="2:4",
        penalty=0.1,
    )
    assert torch.equal(after(engine, tensor, 0.3), bools(["x.x."]))
    output = engine.root(torch.ones(1, 4)) - tensor.bias
    assert output.item() == pytest.approx(0.9)
    output.sum().backward()
    assert tensor.weight.grad.tolist() == [[1, 1, 1, 1]]
    engine.updater.before_step([tensor])
    torch.testing.assert_close(tensor.weight.grad, torch.tensor([[1, 1.01, 1, 1.03]]))


def test_gradual_pruning_removes_the_smallest_down_to_the_schedule():
    engine, tensor = one_layer(
        mask=["xxxx", "xxxx"],
        weight=[[8.0, 1.0, 2.0, 7.0], [6.0, 3.0, 4.0, 5.0]],
        gradient=None,
        budget=2,
        method="gmp",
    )
    tensor.initial_budget = 8
    assert torch.equal(after(engine, tensor, 0, pruned=0.5), bools(["x..x", "x.xx"]))
    assert torch.equal(after(engine, tensor, 0, pruned=1.0), bools(["x..x", "...."]))


def test_granet_prunes_then_regrows():
    engine, tensor = one_layer(
        mask=["xxxx", "xxxx"],
        weight=[[8.0, 1.0, 2.0, 7.0], [6.0, 3.0, 4.0, 5.0]],
        gradient=[[0.0] * 4, [0, 9.0, 0, 0]],
        budget=4,
        method="granet",
    )
    tensor.initial_budget = 8
    assert torch.equal(after(engine, tensor, 0.25, pruned=1.0), bools(["x..x", "xx.."]))
