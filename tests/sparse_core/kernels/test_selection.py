"""Compiled selection takes what a stable sort would take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.kernels import Pattern
from sparse_core.kernels.selection import best_outside, cut_lanes, fill_lanes, top_of
from tests.sparse_core.kernels.patterns import random_mask

DTYPES = st.sampled_from(["float32", "float64"])
KINDS = st.sampled_from(["ties", "normal", "tiny", "zeros", "ends"])


def scores_of(rng: np.random.Generator, kind: str, dtype: str, *shape: int) -> np.ndarray:
    """Scores of a kind; some are -inf, some minus zero."""
    if kind == "ties":
        found = rng.integers(-2, 3, shape).astype(dtype)
    elif kind == "zeros":
        found = np.where(rng.random(shape) < 0.03, rng.random(shape), 0.0).astype(dtype)
    elif kind == "ends":
        info = np.finfo(dtype)
        ends = [info.max, info.min, info.tiny, -info.tiny, info.smallest_subnormal, 0]
        found = rng.choice(np.array(ends, dtype), shape)
    else:
        found = rng.standard_normal(shape).astype(dtype)
        found *= np.float32(1e-30 if kind == "tiny" else 1)
    found[rng.random(shape) < 0.1] = -0.0
    found[rng.random(shape) < 0.1] = -np.inf
    return found


def best(scores: np.ndarray, count: int) -> np.ndarray:
    """The first `count` of a stable sort, those that are -inf left out."""
    order = np.argsort(-scores, kind="stable")[: max(0, count)]
    return np.sort(order[scores[order] > -np.inf])


@given(st.integers(0, 300), st.integers(-1, 310), DTYPES, KINDS, st.integers(0, 999))
def test_the_top_of_an_array(size: int, count: int, dtype: str, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, among = scores_of(rng, kind, dtype, size), rng.random(size) < 0.7
    chosen = top_of(scores, among, count)
    expected = best(np.where(among, scores, -np.inf), count)
    np.testing.assert_array_equal(np.flatnonzero(chosen), expected)


def layer(
    rng: np.random.Generator, rows: int, cols: int, group: int
) -> tuple[Pattern, np.ndarray, np.ndarray | None]:
    """A pattern, some of its slots, and places that are blocked or not."""
    pattern = Pattern.from_mask(random_mask(rng, rows, cols, group, 0.3, 0.2), group)
    blocked = rng.random((rows, cols)) < 0.1 if rng.random() < 0.5 else None
    return pattern, rng.random(pattern.slots) < 0.5, blocked


def candidates(
    scores: np.ndarray, pattern: Pattern, taken: np.ndarray, blocked: np.ndarray | None
) -> np.ndarray:
    """Scores of cells, -inf where nothing may be selected."""
    found = scores.copy()
    lanes = np.repeat(pattern.rows, np.diff(pattern.indptr))
    found[lanes[taken], pattern.columns[taken]] = -np.inf
    if blocked is not None:
        for row, walls in enumerate(blocked):
            found[row // pattern.group, walls] = -np.inf
    return found


SHAPES = given(
    rows=st.integers(1, 150),
    cols=st.integers(1, 140),
    group=st.sampled_from([1, 2, 4, 8]),
    share=st.floats(0, 1),
    dtype=DTYPES,
    kind=KINDS,
    seed=st.integers(0, 999),
)


@SHAPES
def test_the_best_of_a_matrix(
    rows: int, cols: int, group: int, share: float, dtype: str, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pattern, taken, blocked = layer(rng, rows, cols, group)
    scores = scores_of(rng, kind, dtype, -(-rows // group), cols)
    count = int(share**4 * scores.size)
    found = best_outside(scores, pattern, taken, count, blocked)
    expected = best(candidates(scores, pattern, taken, blocked).ravel(), count)
    np.testing.assert_array_equal(found, expected)


@SHAPES
def test_the_best_of_each_lane(
    rows: int, cols: int, group: int, share: float, dtype: str, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pattern, taken, blocked = layer(rng, rows, cols, group)
    scores = scores_of(rng, kind, dtype, -(-rows // group), cols)
    counts = rng.integers(0, int(share * cols) + 2, len(scores))
    found = fill_lanes(scores, pattern, taken, counts, blocked)
    lanes = candidates(scores, pattern, taken, blocked)
    expected = [
        best(lane, n) + i * cols for i, (lane, n) in enumerate(zip(lanes, counts, strict=True))
    ]
    np.testing.assert_array_equal(found, np.concatenate(expected))


@SHAPES
def test_slots_are_cut_in_each_lane(
    rows: int, cols: int, group: int, share: float, dtype: str, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pattern, among, _ = layer(rng, rows, cols, group)
    scores, most = scores_of(rng, kind, dtype, pattern.slots), np.full(len(pattern.lengths), 3)
    most[rng.random(most.size) < 0.3] = int(share * cols)
    chosen = cut_lanes(scores, pattern, among, most)
    for i, lane in enumerate(pattern.rows):
        here = slice(*pattern.indptr[i : i + 2])
        expected = best(np.where(among[here], scores[here], -np.inf), int(most[lane]))
        np.testing.assert_array_equal(np.flatnonzero(chosen[here]), expected)


@pytest.mark.parametrize("worse", [0, 1])
def test_a_sample_that_misleads_is_made_good(worse: int) -> None:
    """The best cells lie where no sample is taken, or only there."""
    rows, cols, count = 64, 1024, 500
    pattern = Pattern.from_mask(np.zeros((rows, cols), np.bool_))
    sampled = (np.arange(cols) - np.arange(rows)[:, None]) % 16 == 0
    scores = np.random.default_rng(0).random((rows, cols), np.float32)
    scores[sampled != worse] += 1
    found = best_outside(scores, pattern, np.zeros(0, np.bool_), count)
    np.testing.assert_array_equal(found, best(scores.ravel(), count))


@pytest.mark.parametrize("kind", ["normal", "ties", "alike but for the sample", "sample alike"])
def test_the_top_of_an_array_of_which_a_sample_is_looked_at_first(kind: str) -> None:
    size = 17 * 4096 + 5
    scores = scores_of(
        np.random.default_rng(0), "ties" if kind == "ties" else "normal", "float32", size
    )
    if "alike" in kind:
        sampled = np.arange(size) % 17 == 0
        scores[sampled == (kind == "sample alike")] = 0.5
    among = np.ones(size, np.bool_)
    for count in (1, 6000, size // 2, size - 1):
        np.testing.assert_array_equal(
            np.flatnonzero(top_of(scores, among, count)), best(scores, count)
        )
