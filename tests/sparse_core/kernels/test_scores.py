"""Growth scores, a block of rows at a time, are those of the whole gradient."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.kernels import reference, topk
from tests.sparse_core.kernels.patterns import Problem, problems

SMALL = problems((1, 4), st.integers(1, 4))


@given(SMALL, st.integers(1, 9), st.integers(1, 20), st.booleans())
def test_rows(problem: Problem, block_rows: int, k: int, exclude: bool) -> None:
    out, inputs = problem.mask.shape
    # Small integers: sums are exact in any order, and there are ties to settle.
    x, dy = np.rint(problem.x), np.rint(problem.dy)
    without = problem.pattern if exclude else None
    k = min(k, inputs)
    gradient = topk.gradient_of(x, dy)
    columns, best = topk.top_rows(gradient, out, inputs, k, without, block_rows)
    expected_columns, expected = reference.top_rows(x, dy, k, without)
    np.testing.assert_array_equal(columns, expected_columns)
    np.testing.assert_array_equal(best, expected)


@given(SMALL, st.integers(1, 9), st.integers(1, 500), st.booleans())
def test_layer(problem: Problem, block_rows: int, n: int, exclude: bool) -> None:
    out, inputs = problem.mask.shape
    x, dy = np.rint(problem.x), np.rint(problem.dy)
    without = problem.pattern if exclude else None
    gradient = topk.gradient_of(x, dy)
    places, best = topk.top_layer(gradient, out, inputs, n, without, block_rows)
    expected_places, expected = reference.top_layer(x, dy, n, without)
    np.testing.assert_array_equal(places, expected_places)
    np.testing.assert_array_equal(best, expected)


def test_by_hand() -> None:
    gradient = np.array([[1.0, -3.0, 2.0], [0.0, -2.0, 2.0]])
    columns, best = topk.top_rows(lambda a, b: gradient[a:b].copy(), 2, 3, 2)
    assert columns.tolist() == [[1, 2], [1, 2]]
    assert best.tolist() == [[3, 2], [2, 2]]
    places, best = topk.top_layer(lambda a, b: gradient[a:b].copy(), 2, 3, 3)
    assert places.tolist() == [1, 2, 4]
    assert best.tolist() == [3, 2, 2]


def test_nan_is_no_reason_to_grow() -> None:
    gradient = np.array([[np.nan, 1.0], [np.inf, np.nan]])
    columns, best = topk.top_rows(lambda a, b: gradient[a:b].copy(), 2, 2, 2)
    assert columns.tolist() == [[1, 0], [0, 1]]
    assert best.tolist() == [[1, 0], [np.inf, 0]]


@pytest.mark.parametrize("which", ["rows", "layer"])
def test_memory_is_bounded(which: str) -> None:
    rng = np.random.default_rng(0)
    out = inputs = 3000  # a dense gradient of 36 MB
    x = rng.standard_normal((8, inputs)).astype(np.float32)
    dy = rng.standard_normal((8, out)).astype(np.float32)
    gradient = topk.gradient_of(x, dy)
    tracemalloc.start()
    if which == "rows":
        topk.top_rows(gradient, out, inputs, 5, block_rows=50)
    else:
        topk.top_layer(gradient, out, inputs, 5000, block_rows=50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6e6


def test_requests_that_make_no_sense() -> None:
    gradient = topk.gradient_of(np.ones((1, 3)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="k must be between 1 and 3, got 4"):
        topk.top_rows(gradient, 2, 3, 4)
    with pytest.raises(ValueError, match="n must be positive, got 0"):
        topk.top_layer(gradient, 2, 3, 0)
    with pytest.raises(ValueError, match="block_rows must be positive, got 0"):
        topk.top_layer(gradient, 2, 3, 1, block_rows=0)
