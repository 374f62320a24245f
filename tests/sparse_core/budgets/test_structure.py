import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.budgets.patterns import Blocks, ConstantFanIn, NOfM, Unstructured, structure_for
from sparse_core.budgets.ranking import MINUS_INFINITY, top_of_layer, top_of_network, top_per_lane


def bools(rows):
    return torch.tensor([[c == "x" for c in row] for row in rows])


SCORES = torch.tensor(
    [[9.0, 1.0, 8.0, 2.0], [1.0, 7.0, 2.0, 6.0], [5.0, 5.0, 0.0, 1.0], [0.0, 0.0, 4.0, 3.0]]
)

FIRST_MASKS = [
    ("unstructured", 1, 5, ["x.x.", ".x.x", "x...", "...."]),
    ("constant_fan_in", 1, 8, ["x.x.", ".x.x", "xx..", "..xx"]),
    # Column means of the groups: 5 4 5 4 and 2.5 2.5 2 2.
    ("constant_fan_in", 2, 8, ["x.x.", "x.x.", "xx..", "xx.."]),
    ("2:4", 1, 8, ["x.x.", ".x.x", "xx..", "..xx"]),
    ("1:2", 1, 8, ["x.x.", ".x.x", "x..x", "x.x."]),
    # Row means: 5 4 2.75 1.75.
    ("neurons", 1, 8, ["xxxx", "xxxx", "....", "...."]),
    # Block means: 4.5 4.5 2.5 2.
    ("2x2", 1, 8, ["xxxx", "xxxx", "....", "...."]),
    # Block means: 5 5, 4 4, 5 .5, 0 3.5.
    ("1x2", 1, 8, ["xxxx", "xx..", "xx..", "...."]),
]


@pytest.mark.parametrize(("name", "group", "budget", "expected"), FIRST_MASKS)
def test_the_mask_of_highest_scores_by_hand(name, group, budget, expected):
    structure = structure_for(name, group)
    mask = structure.initial(4, 4, budget, SCORES)
    assert torch.equal(mask, bools(expected))
    structure.check(mask, budget)


def test_refill_truncates_the_weakest_and_grows_the_strongest():
    kept = bools(["xxx.", "...x"])
    keep_scores = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    grow_scores = torch.tensor([[0.0, 0.0, 0.0, 9.0], [2.0, 5.0, 3.0, 9.0]])
    after = ConstantFanIn().refill(kept, keep_scores, grow_scores, torch.tensor([2, 2]))
    assert torch.equal(after, bools(["x.x.", ".x.x"]))


def test_ablated_lanes_are_empty_and_the_others_hold_more():
    live = torch.tensor([True, False, True, True])
    assert ConstantFanIn().capacity(9, 4, 10, live).tolist() == [3, 0, 3, 3]
    assert ConstantFanIn().capacity(40, 4, 10, torch.tensor([True] + [False] * 3)).max() == 10


def test_what_the_neurons_do_not_divide_goes_to_the_first_of_them():
    assert ConstantFanIn().capacity(10, 4, 10).tolist() == [3, 3, 2, 2]
    live = torch.tensor([True, False, True, True])
    assert ConstantFanIn().capacity(10, 4, 10, live).tolist() == [4, 0, 3, 3]
    assert ConstantFanIn().capacity(13, 4, 3).tolist() == [3, 3, 3, 3]
    assert ConstantFanIn(equal=True).capacity(10, 4, 10, live).tolist() == [3, 0, 3, 3]
    # Of 17 weights 12 make a fan-in of 2 in 6 neurons; a column more of the group of 4 leaves 1.
    assert ConstantFanIn(4).capacity(17, 6, 10).tolist() == [3, 2]
    assert [ConstantFanIn(4).quantum(rows, 10) for rows in (8, 6)] == [4, 6]
    assert ConstantFanIn(4).quantum(8, 10, alike=True) == 8


def test_a_last_group_may_be_smaller():
    structure = ConstantFanIn(group=4)
    assert structure.sizes(10).tolist() == [4, 4, 2]
    mask = structure.initial(10, 6, 20, torch.rand(10, 6))
    assert mask.sum(1).tolist() == [2] * 10
    assert torch.equal(mask[8], mask[9]) and torch.equal(mask[0], mask[3])
    live = torch.tensor([True, False, True])
    assert structure.capacity(20, 10, 6, live).tolist() == [3, 0, 3]


def test_a_row_that_m_does_not_divide():
    mask = NOfM(2, 4).initial(3, 5, 0, torch.rand(3, 5))
    assert mask[:, :4].sum(1).tolist() == [2, 2, 2] and bool(mask[:, 4].all())
    assert NOfM(2, 4).least(3, 5) == 9


def test_blocks_at_an_edge_are_cut():
    mask = Blocks(2, 2).initial(3, 3, 4, torch.tensor([[0, 0, 1], [0, 0, 1], [0, 0, 1.0]]))
    assert torch.equal(mask, bools(["..x", "..x", "..."]))


@pytest.mark.parametrize(
    ("structure", "rows", "budget", "message"),
    [
        (Unstructured(), ["xx", ".."], 3, "lane 0 of its unstructured mask has 2 of 3 cells"),
        (ConstantFanIn(), ["xx", ".x"], 2, "lane 0 of its constant fan-in has 2 of 1 cells"),
        (ConstantFanIn(2), ["x.", ".x"], 2, "mask cuts through a cell"),
        (NOfM(1, 2), ["xx", ".x"], 2, "lane 0 of its 1:2 pattern has 2 of 1 cells"),
        (Blocks(1, 0), ["x.", ".."], 2, "mask cuts through a cell of its whole neurons"),
        (Unstructured(), ["..", ".."], 3, "is empty"),
    ],
)
def test_wrong_masks_are_named(structure, rows, budget, message):
    with pytest.raises(ValueError, match=message):
        structure.check(bools(rows), budget)


def test_equal_scores_go_to_the_first():
    scores = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    picked = top_per_lane(scores, torch.tensor([2, 3]))
    assert torch.equal(picked, bools(["xx..", "xxx."]))


def test_minus_infinity_is_never_picked():
    scores = torch.tensor([[MINUS_INFINITY, 0.0, MINUS_INFINITY]])
    assert torch.equal(top_per_lane(scores, torch.tensor([2])), bools([".x."]))
    assert not top_per_lane(scores, torch.tensor([0])).any()


def test_ranking_over_a_layer_and_over_a_network():
    assert torch.equal(top_of_layer(SCORES, SCORES < 9, 2), bools(["..x.", ".x..", "....", "...."]))
    parts = top_of_network([SCORES[:1], SCORES[1:2]], [SCORES[:1] >= 0, SCORES[1:2] >= 0], 3)
    assert torch.equal(torch.cat(parts), bools(["x.x.", ".x.."]))


@given(
    scores=st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=5),
    counts=st.lists(st.integers(0, 8), min_size=5, max_size=5),
)
def test_selection_equals_a_stable_sort(scores, counts):
    matrix = torch.tensor(scores, dtype=torch.float64)
    counts = torch.tensor(counts[: len(scores)])
    picked = top_per_lane(matrix, counts)
    for row, n, found in zip(matrix, counts.tolist(), picked, strict=True):
        order = torch.argsort(row, descending=True, stable=True)
        expected = torch.zeros(6, dtype=torch.bool)
        expected[order[:n]] = True
        assert torch.equal(found, expected)


STRUCTURES = [
    Unstructured(),
    ConstantFanIn(),
    ConstantFanIn(2),
    ConstantFanIn(4),
    NOfM(2, 4),
    NOfM(1, 3),
    Blocks(1, 0),
    Blocks(2, 3),
]


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
@given(
    rows=st.integers(1, 12), cols=st.integers(1, 12), part=st.floats(0, 1), seed=st.integers(0, 9)
)
def test_first_masks_obey_their_structure(structure, rows, cols, part, seed):
    quantum = structure.quantum(rows, cols)
    most = rows * cols // quantum
    budget = max(structure.least(rows, cols), int(part * most) * quantum)
    generator = torch.Generator().manual_seed(seed)
    mask = structure.initial(rows, cols, budget, torch.rand(rows, cols, generator=generator))
    structure.check(mask, budget)
    again = structure.expand(structure.any_in_cell(mask), rows, cols)
    assert torch.equal(again, mask)
    if isinstance(structure, NOfM):
        assert int(mask.sum()) == structure.least(rows, cols)
    elif isinstance(structure, Blocks):
        block = structure.least(rows, cols)
        assert min(budget, rows * cols) - block < int(mask.sum()) <= budget
    else:
        assert int(mask.sum()) == budget


def test_places_that_are_taken_are_not_used():
    available = bools(["..xx", "xx.."])
    mask = ConstantFanIn().initial(2, 4, 4, torch.rand(2, 4), available)
    assert torch.equal(mask, available)
    with pytest.raises(ValueError, match=r"lane 0 .* needs 3 free places, 2 are left"):
        ConstantFanIn().initial(2, 4, 6, torch.rand(2, 4), available)
