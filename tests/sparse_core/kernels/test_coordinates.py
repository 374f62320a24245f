"""Patterns by positions are those of masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.kernels.coordinates import positions_of, rows_of, set_bits, without
from tests.sparse_core.kernels.patterns import Problem, problems

SMALL = problems((1, 4), st.integers(1, 4))


@given(SMALL)
def test_positions_are_those_of_the_mask(problem: Problem) -> None:
    np.testing.assert_array_equal(positions_of(problem.pattern), np.flatnonzero(problem.mask))


@given(SMALL, st.integers(0, 9), st.integers(0, 9))
def test_rows_of_a_pattern(problem: Problem, first: int, count: int) -> None:
    pattern, values, mask = problem.pattern, problem.values, problem.mask
    first = min(first * pattern.group, len(mask) - 1) // pattern.group * pattern.group
    last = min(first + max(1, count) * pattern.group, len(mask))
    part, places = rows_of(pattern, first, last)
    np.testing.assert_array_equal(part.to_mask(), mask[first:last])
    np.testing.assert_array_equal(part.expand(values[places]), pattern.expand(values)[first:last])


def test_without() -> None:
    def less(positions: list[int], removed: list[int]) -> list[int]:
        return without(np.array(positions, int), np.array(removed, int)).tolist()

    assert less([1, 3, 5, 9], [0, 3, 9, 11]) == [1, 5]
    assert less([1, 3], []) == [1, 3]
    assert less([], [2]) == []


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_bits_are_those_of_packed_flags(dtype: str) -> None:
    flags = np.zeros(21, np.bool_)
    flags[[0, 3, 20]] = True
    bits = np.packbits(flags).astype(dtype)
    set_bits(bits, np.array([3, 8, 15, 19]))
    flags[[8, 15, 19]] = True
    np.testing.assert_array_equal(bits, np.packbits(flags))
