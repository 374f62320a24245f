"""Patterns by positions are those of masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.kernels.coordinates import from_positions, positions_of, rows_of, without
from tests.sparse_core.kernels.patterns import Problem, problems

SMALL = problems((1, 4), st.integers(1, 4))


@given(SMALL)
def test_positions_there_and_back(problem: Problem) -> None:
    pattern, (rows, columns) = problem.pattern, problem.mask.shape
    positions = positions_of(pattern)
    np.testing.assert_array_equal(positions, np.flatnonzero(problem.mask))
    again = from_positions(positions, columns, rows, pattern.group)
    for name in ("columns", "indptr", "rows"):
        np.testing.assert_array_equal(getattr(again, name), getattr(pattern, name))


@given(SMALL, st.integers(0, 9), st.integers(0, 9))
def test_rows_of_a_pattern(problem: Problem, first: int, count: int) -> None:
    pattern, values, mask = problem.pattern, problem.values, problem.mask
    first = min(first * pattern.group, len(mask) - 1) // pattern.group * pattern.group
    last = min(first + max(1, count) * pattern.group, len(mask))
    part, places = rows_of(pattern, first, last)
    np.testing.assert_array_equal(part.to_mask(), mask[first:last])
    np.testing.assert_array_equal(part.expand(values[places]), pattern.expand(values)[first:last])


def test_rows_of_a_group_must_agree() -> None:
    assert from_positions(np.array([0, 4]), 4, 2, 2).slots == 1
    with pytest.raises(ValueError, match="rows of one group of 2"):
        from_positions(np.array([0, 5]), 4, 2, 2)


@pytest.mark.parametrize("positions", [[-1, 2], [3, 8]])
def test_positions_outside_are_refused(positions: list[int]) -> None:
    with pytest.raises(ValueError, match="below 8"):
        from_positions(np.array(positions), 4, 2)


def test_without() -> None:
    def less(positions: list[int], removed: list[int]) -> list[int]:
        return without(np.array(positions, int), np.array(removed, int)).tolist()

    assert less([1, 3, 5, 9], [0, 3, 9, 11]) == [1, 5]
    assert less([1, 3], []) == [1, 3]
    assert less([], [2]) == []
