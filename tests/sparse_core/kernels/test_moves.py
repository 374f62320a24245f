"""A change of topology is that of masks, and values stay with their weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.kernels import Pattern
from sparse_core.kernels.moves import Move, between, change
from tests.sparse_core.kernels.patterns import Problem, problems, random_mask

SMALL = problems((1, 2, 4, 8), st.just(1))


def flat(mask: np.ndarray) -> np.ndarray:
    return np.flatnonzero(mask).astype(np.int64)


def check(move: Move, problem: Problem, mask: np.ndarray, dtype: str) -> None:
    """The new pattern is that of the mask; values follow, others get the initial value."""
    expected = Pattern.from_mask(mask, problem.pattern.group)
    for name in ("columns", "indptr", "rows"):
        found = getattr(move.after, name)
        assert found.dtype == getattr(expected, name).dtype
        np.testing.assert_array_equal(found, getattr(expected, name))
    assert move.after.same(expected)
    capacity = max(problem.values.size, expected.size) + 2
    values = np.full(capacity, np.nan, dtype)
    values[: problem.values.size] = problem.values
    move.carry(values, -7)
    wanted = np.where(problem.mask, problem.dense, -7).astype(dtype)
    np.testing.assert_array_equal(expected.expand(values), np.where(mask, wanted, 0))
    used = expected.coordinates()[2]
    unused = np.delete(values, used)
    assert (unused == -7).all()
    np.testing.assert_array_equal(move.places(capacity) >= 0, _stays(problem, mask, capacity))


def _stays(problem: Problem, mask: np.ndarray, capacity: int) -> np.ndarray:
    rows, columns, used = Pattern.from_mask(mask, problem.pattern.group).coordinates()
    stays = np.zeros(capacity, np.bool_)
    stays[used] = problem.mask[rows, columns]
    return stays


@given(SMALL, st.floats(0, 1), st.sampled_from(["float32", "float64"]), st.integers(0, 999))
def test_a_change_is_that_of_masks(problem: Problem, density: float, dtype: str, seed: int) -> None:
    before, group = problem.mask, problem.pattern.group
    after = random_mask(np.random.default_rng(seed), *before.shape, group, density, 0.2)
    move = change(problem.pattern, flat(before & ~after), flat(after & ~before))
    check(move, problem, after, dtype)
    check(between(problem.pattern, Pattern.from_mask(after, group)), problem, after, dtype)


def test_patterns_that_differ() -> None:
    one = Pattern.from_mask(np.eye(4, 6, dtype=np.bool_))
    assert one.same(Pattern.from_mask(np.eye(4, 6, dtype=np.bool_)))
    for other in (np.eye(4, 7), np.eye(5, 6), np.eye(4, 6, 1), np.eye(4, 6, 3)):
        assert not one.same(Pattern.from_mask(other.astype(np.bool_)))
    pair = np.repeat(np.eye(2, 6, dtype=np.bool_), 2, axis=0)
    assert not Pattern.from_mask(pair, 2).same(Pattern.from_mask(pair))


@pytest.mark.parametrize(
    ("dropped", "grown", "message"),
    [
        ([], [0], "position 0 is active and cannot be grown"),
        ([1], [], "position 1 is not active and cannot be dropped"),
        ([8], [], "different columns, at position 8"),
        ([8, 13], [], "different columns, at position 8"),
        ([0, 4], [3], "different columns, at position 3"),
        ([], [1, 2, 5, 7], "different columns, at position 2"),
        ([], [1, 5, 6], "different columns, at position 6"),
        ([0, 4, 6], [], "different columns, at position 6"),
        ([], [2, 1], "must ascend and lie in the matrix, got 1"),
        ([], [-1], "must ascend and lie in the matrix, got -1"),
        ([], [20], "must ascend and lie in the matrix, got 20"),
        ([20], [], "must ascend and lie in the matrix, got 20"),
    ],
)
def test_changes_that_cannot_be(dropped: list[int], grown: list[int], message: str) -> None:
    mask = np.zeros((5, 4), np.bool_)
    mask[:2, 0] = mask[2:4, [0]] = mask[2:4, [1]] = True  # groups of 2 in 5 rows
    pattern = Pattern.from_mask(mask, 2)
    with pytest.raises(ValueError, match=message):
        change(pattern, np.array(dropped, np.int64), np.array(grown, np.int64))
