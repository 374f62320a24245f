"""Cells at the edge of a layer, which hold fewer weights, are treated as the others are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sparse_core import Engine, SparseConfig, sparsify
from sparse_core.budgets.patterns import Blocks, ConstantFanIn, NOfM, Unstructured
from sparse_core.budgets.ranking import MINUS_INFINITY, top_within
from sparse_core.updaters.scene import Moment, Scene
from sparse_core.weights.tensor import SparseTensor
from tests.sparse_core.networks import mlp, train

NUMBERS = torch.tensor([[1.0, 3.0, 5.0], [3.0, 5.0, 7.0], [2.0, 4.0, 9.0]])


@pytest.mark.parametrize(
    ("structure", "cells"),
    [
        (Unstructured(), [[1, 3, 5, 3, 5, 7, 2, 4, 9]]),
        (ConstantFanIn(), [[1, 3, 5], [3, 5, 7], [2, 4, 9]]),
        (ConstantFanIn(2), [[2, 4, 6], [2, 4, 9]]),
        (Blocks(1, 0), [[3, 5, 5]]),
        (Blocks(2, 2), [[3, 6, 3, 9]]),
        (Blocks(2, 4), [[4, 5]]),
        (Blocks(4, 1), [[2, 4, 7]]),
    ],
    ids=str,
)
def test_a_cells_score_is_the_mean_of_its_weights(structure: Any, cells: list[list[float]]) -> None:
    assert structure.cells(NUMBERS).tolist() == cells
    taken = NUMBERS.masked_fill(NUMBERS == 9, MINUS_INFINITY)
    assert (structure.cells(taken) == MINUS_INFINITY).sum() == 1


@pytest.mark.parametrize(
    ("structure", "draws"),
    [
        (Unstructured(), [[1, 3, 5], [3, 5, 7], [2, 4, 9]]),
        (NOfM(1, 2), [[1, 3, 5], [3, 5, 7], [2, 4, 9]]),
        (ConstantFanIn(), [[1, 3, 5], [3, 5, 7], [2, 4, 9]]),
        (ConstantFanIn(2), [[1, 3, 5], [1, 3, 5], [2, 4, 9]]),
        (Blocks(1, 0), [[1, 1, 1], [3, 3, 3], [2, 2, 2]]),
        (Blocks(2, 2), [[1, 1, 5], [1, 1, 5], [2, 2, 9]]),
        (Blocks(2, 4), [[1, 1, 1], [1, 1, 1], [2, 2, 2]]),
    ],
    ids=str,
)
def test_a_cell_draws_one_number(structure: Any, draws: list[list[float]]) -> None:
    assert structure.alike(NUMBERS).tolist() == draws


def test_growth_at_random_draws_one_number_for_a_cell() -> None:
    tensor = sparsify(nn.Linear(5, 3), SparseConfig("set", structure="2x2", sparsity=0.5)).tensors[
        0
    ]
    draws = Scene(tensor, Moment(1, 0, 0.5), tensor.active()).random("growth")
    assert torch.equal(draws, Blocks(2, 2).alike(draws)) and len(draws.unique()) == 6


@pytest.mark.parametrize(
    ("structure", "rows", "cols", "prices", "quantum"),
    [
        (Blocks(2, 2), 3, 5, [4, 4, 2, 2, 2, 1], 2),
        (Blocks(4, 4), 8, 8, [16, 16, 16, 16], 16),
        (Blocks(4, 4), 8, 6, [16, 8, 16, 8], 8),
        (Blocks(4, 4), 7, 6, [16, 8, 12, 6], 4),
        (Blocks(4, 4), 3, 3, [9], 9),
        (Blocks(1, 0), 3, 5, [5, 5, 5], 5),
    ],
    ids=str,
)
def test_a_block_costs_the_weights_that_it_holds(
    structure: Blocks, rows: int, cols: int, prices: list[int], quantum: int
) -> None:
    assert structure.prices(rows, cols).tolist() == [prices]
    assert structure.quantum(rows, cols) == quantum
    assert structure.least(rows, cols) == max(prices)
    assert sum(prices) == rows * cols


def test_blocks_are_taken_in_order_until_the_budget_has_no_room_for_a_whole_one() -> None:
    # Blocks of 4 4 2 / 2 2 1 weights with means 5 9 8 / 1 7 6.
    scores = torch.tensor([[5.0, 5, 9, 9, 8], [5, 5, 9, 9, 8], [1, 1, 7, 7, 6]])
    holds = {4: 4, 7: 4, 8: 6, 9: 6, 10: 8, 11: 8, 12: 9, 13: 13, 14: 13, 15: 15}
    for budget, held in holds.items():
        mask = Blocks(2, 2).initial(3, 5, budget, scores)
        assert int(mask.sum()) == held, budget
        Blocks(2, 2).check(mask, budget)
    with pytest.raises(ValueError, match="lane 0 of its 2x2 blocks has 13 of 12 weights"):
        Blocks(2, 2).check(Blocks(2, 2).initial(3, 5, 13, scores), 12)
    with pytest.raises(ValueError, match="lane 0 of its 2x2 blocks has 4 of 8 weights"):
        Blocks(2, 2).check(Blocks(2, 2).initial(3, 5, 4, scores), 8)


@given(
    scores=st.lists(st.integers(-1, 3), min_size=1, max_size=12),
    prices=st.lists(st.integers(1, 5), min_size=12, max_size=12),
    capacity=st.integers(-2, 40),
)
def test_selection_by_price_equals_a_loop(
    scores: list[int], prices: list[int], capacity: int
) -> None:
    values = [float(s) if s >= 0 else MINUS_INFINITY for s in scores]
    order = sorted((i for i, v in enumerate(values) if v >= 0), key=lambda i: -values[i])
    costs = prices[: len(values)]
    wanted, left = set[int](), capacity
    if sum(costs[i] for i in order) <= capacity:
        wanted = set(order)
    else:
        for i in order:
            if left < max(costs):
                break
            wanted.add(i)
            left -= costs[i]
    lane, price = torch.tensor([values]), torch.tensor([costs])
    picked = top_within(lane, torch.tensor([capacity]), price)
    assert set(picked[0].nonzero().flatten().tolist()) == wanted


# Random masks -------------------------------------------------------------------------------------


def active_fractions(structure: str, method: str, updates: int) -> Tensor:
    """Return in which fraction of 100 nets each input of 17 of a layer has its weights."""
    total = torch.zeros(17)
    for seed in range(100):
        config = SparseConfig(method, structure=structure, sparsity=0.5, seed=seed)
        engine = sparsify(nn.Linear(17, 64), config)
        for _ in range(updates):
            engine.tensors[0].write(torch.ones(64, 17))
            engine.update()
        total += engine.tensors[0].active().float().mean(0)
    return total / 100


@pytest.mark.parametrize(
    ("structure", "method", "updates"),
    [("4x4", "static", 0), ("2x2", "static", 0), ("8x8", "static", 0), ("4x4", "set", 3)],
)
def test_the_last_input_is_as_often_active_as_the_others(
    structure: str, method: str, updates: int
) -> None:
    # A column of blocks has 64 / R of them, half of them active: in 100 nets, a standard deviation
    # of 1 / (20 sqrt(64 / R)). Budgets are up to a block short, which lowers all alike.
    height = int(structure[0])
    deviation = 0.5 / (100 * 64 / height) ** 0.5
    fractions = active_fractions(structure, method, updates)
    assert abs(float(fractions[16] - fractions[:16].mean())) < 4 * deviation
    assert abs(float(fractions.mean()) - 0.5) < height * height / (64 * 17)


# Budgets in training ------------------------------------------------------------------------------


def rigl(backend: str, **fields: Any) -> tuple[nn.Sequential, torch.optim.Optimizer, Engine]:
    torch.manual_seed(0)
    net = mlp(13, 127, 3)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    config = SparseConfig(
        sparsity=0.3,
        structure="4x4",
        distribution="uniform",
        update_every=1,
        dense=("output",),
        backend=backend,
        **fields,
    )
    return net, optimizer, sparsify(net, config, optimizer)


@pytest.mark.parametrize("method", ["rigl", "set", "mest", "topkast", "gmp"])
def test_blocks_hold_their_budget_less_a_part_of_a_block(method: str) -> None:
    # 1651 weights of which 1156 are active: blocks of 16, 4, 12 and 3, budgets multiples of 4.
    net, optimizer, engine = rigl("masked", method=method, horizon=12, stop_at=1.0)
    tensor = engine.tensors[0]
    assert tensor.budget == 1156
    for step in range(12):
        with torch.no_grad():
            tensor.weight[:, 12] *= 1.5
        train(net, optimizer, range(step, step + 1), n_in=13)
        if method != "gmp" or step == 11:
            assert 1156 - 16 < tensor.count() <= 1156
        tensor.structure.check(tensor.active(), max(tensor.count(), 1156))
        assert engine.layers()[0].active == tensor.count() == int(tensor.active().sum())
        assert engine.sparsity == pytest.approx(1 - tensor.count() / 1651)
    assert engine.updates > 0


def test_condensed_blocks_visit_the_topologies_of_masked_ones() -> None:
    masked, condensed = rigl("masked", method="rigl"), rigl("condensed", method="rigl")
    for step in range(8):
        for net, optimizer, _ in (masked, condensed):
            train(net, optimizer, range(step, step + 1), n_in=13)
        one, other = masked[2].tensors[0], condensed[2].tensors[0]
        assert torch.equal(one.active(), other.active())
        assert one.count() == other.count()
    assert condensed[2].updates == 8


def test_mest_holds_more_blocks_between_updates_and_the_budget_at_the_end() -> None:
    engine = rigl("masked", method="mest", slack=0.2, drop_fraction=0.4)[2]
    tensor = engine.tensors[0]
    held = []
    for fraction, last in ((0.4, False), (0.2, False), (0.4, True)):
        tensor.tap.value = torch.rand(127, 13)
        (delta,) = engine.updater.propose([tensor], Moment(1, 0, fraction, last=last))  # type: ignore[union-attr]
        tensor.apply(delta)
        held.append(tensor.count())
    for found, budget in zip(held, (1156 + 231, 1156 + 115, 1156), strict=True):
        assert budget - 16 < found <= budget


@pytest.mark.parametrize("sparsity", [0.3, 0.1])
def test_topkasts_backward_blocks_contain_the_forward_ones(sparsity: float) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        config = SparseConfig("topkast", sparsity=0.3, structure="4x4", backward_sparsity=sparsity)
        tensor = sparsify(nn.Linear(9, 11), config).tensors[0]
        backward = tensor.companion("backward")
        assert backward is not None and not bool((tensor.mask > backward).any())


# Groups -------------------------------------------------------------------------------------------


def grouped(rows: int, group: int, **fields: Any) -> tuple[Engine, SparseTensor]:
    config = SparseConfig(
        structure="constant_fan_in", group=group, sparsity=0.8, distribution="uniform", **fields
    )
    engine = sparsify(nn.Linear(64, rows), config, roles={"": "hidden"})
    return engine, engine.tensors[0]


def test_groups_with_a_smaller_last_one_by_hand() -> None:
    # Groups (0 1) and (2). Means of |w|: 4 1 . . and 3 2 . .; the two weakest of four are dropped:
    # 1 of the first group, 2 of the second. Means of |g| where it grows: 0 1 5 and 0 2 8.
    config = SparseConfig("rigl", structure="constant_fan_in", group=2, sparsity=0.5)
    engine = sparsify(nn.Linear(4, 3), config)
    tensor = engine.tensors[0]
    tensor.start(torch.tensor([[True, True, False, False]] * 3))
    tensor.write(torch.tensor([[5.0, 2, 0, 0], [3, 0, 0, 0], [3, 2, 0, 0]]))
    tensor.tap.value = torch.tensor([[9.0, 0, 1, 4], [9, 0, 1, 6], [9, 0, 2, 8]])
    assert engine.updater is not None
    (delta,) = engine.updater.propose([tensor], Moment(1, 0, 0.5))
    tensor.apply(delta)
    expected = [[1, 0, 0, 1], [1, 0, 0, 1], [1, 0, 0, 1]]
    assert tensor.active().int().tolist() == expected


@pytest.mark.parametrize(("rows", "group"), [(65, 8), (17, 2), (64, 8)])
def test_what_a_group_loses_does_not_depend_on_its_place(rows: int, group: int) -> None:
    # 12 of 64 columns are active and 30 % of the layer's cells are dropped: in 60 layers the share
    # of one group has a standard deviation of about sqrt(.3 * .7 / (12 * 60)) = .017; |w| of
    # fewer neurons varies more, so a mean over them is among the weakest somewhat oftener.
    last, others = [], []
    for seed in range(60):
        torch.manual_seed(seed)
        engine, tensor = grouped(rows, group, method="rigl", seed=seed)
        tensor.write(torch.rand(rows, 64) + 1)
        tensor.tap.value = torch.rand(rows, 64)
        assert engine.updater is not None
        before = tensor.active()
        (delta,) = engine.updater.propose([tensor], Moment(1, 0, 0.3))
        tensor.apply(delta)
        lost = (before & ~tensor.active()).sum(1) / before.sum(1)
        last.append(float(lost[-1]))
        others.append(float(lost[: -(rows % group or group)].mean()))
    ratio = sum(last) / sum(others)
    assert 0.7 < ratio < 1.6, ratio


@pytest.mark.parametrize(("rows", "group"), [(65, 8), (17, 2)])
def test_a_smaller_last_group_is_not_ablated_for_its_size(rows: int, group: int) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        engine, tensor = grouped(rows, group, method="srigl", seed=seed)
        tensor.write(torch.rand(rows, 64) + 1)
        tensor.tap.value = torch.rand(rows, 64)
        assert engine.updater is not None
        (delta,) = engine.updater.propose([tensor], Moment(1, 0, 0.3))
        assert delta.ablated.tolist() == []
