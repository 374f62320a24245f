"""Dense gradients for growth, a block of rows at a time.

RigL grows where |dL/dW| = |dy^T x| is largest, also at weights that do not exist. The gradient of
a large layer does not fit in memory and is not needed: a block of its rows is computed, its best
entries are kept, and the block is overwritten. For a budget of each row these are the top k of the
row; for a budget of the layer, a list of candidates is cut back to the best n whenever it has
grown to twice that, and what is below the worst of them is not looked at any more.

RigL, Evci et al. 2020, section 3, "Grow". Equal scores go to the lower place, NaN counts as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.format import Pattern

BLOCK_ELEMENTS = 1 << 20
"""Elements of the dense gradient held at once, by default."""

Gradient = Callable[[int, int], NDArray[Any]]
"""Returns rows first to last of a dense gradient: (last - first, in), which it gives away."""


def gradient_of(x: NDArray[Any], dy: NDArray[Any]) -> Gradient:
    """Return the gradient dy^T x as a function of a block of rows.

    Args:
        x: (batch, in) input of the layer.
        dy: (batch, out) gradient of its output.
    """
    transposed = np.ascontiguousarray(dy.T)
    return lambda first, last: np.matmul(transposed[first:last], x)


def score_blocks(
    gradient: Gradient,
    out_features: int,
    in_features: int,
    exclude: Pattern | None = None,
    block_rows: int | None = None,
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield blocks of |gradient|.

    Args:
        gradient: See `gradient_of`.
        out_features: Rows.
        in_features: Columns.
        exclude: Weights that are not candidates: their score is -1.
        block_rows: Rows of a block; by default as many as make a million elements.

    Yields:
        First row, and scores (rows, in). The array is the caller's.
    """
    step = max(1, BLOCK_ELEMENTS // in_features) if block_rows is None else block_rows
    if step < 1:
        raise ValueError(f"block_rows must be positive, got {block_rows}")
    for first in range(0, out_features, step):
        last = min(out_features, first + step)
        scores = gradient(first, last)
        np.abs(scores, out=scores)
        np.nan_to_num(scores, copy=False, nan=0.0, posinf=np.inf)
        if exclude is not None:
            _exclude(scores, exclude, first)
        yield first, scores


def _exclude(scores: NDArray[Any], pattern: Pattern, first: int) -> None:
    """Set scores of the pattern's weights to -1; `scores` begins at row `first`."""
    last = first + len(scores)
    low = int(np.searchsorted(pattern.rows, first // pattern.group))
    high = int(np.searchsorted(pattern.rows, -(-last // pattern.group)))
    for i in range(low, high):
        row = int(pattern.rows[i]) * pattern.group
        columns = pattern.columns[pattern.indptr[i] : pattern.indptr[i + 1]]
        for r in range(max(row, first), min(row + pattern.group, last)):
            scores[r - first, columns] = -1


def top_rows(
    gradient: Gradient,
    out_features: int,
    in_features: int,
    k: int,
    exclude: Pattern | None = None,
    block_rows: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the best k entries of each row.

    Args:
        gradient: See `gradient_of`.
        out_features: Rows.
        in_features: Columns.
        k: Entries of a row.
        exclude: Weights that are not candidates.
        block_rows: Rows that are computed at once.

    Returns:
        Columns (out, k) int64 and scores (out, k), best first. Where a row has too few
        candidates the column is -1 and the score -1.

    Raises:
        ValueError: If k is not between 1 and `in_features`.
    """
    if not 1 <= k <= in_features:
        raise ValueError(f"k must be between 1 and {in_features}, got {k}")
    columns = np.empty((out_features, k), np.int64)
    best: NDArray[Any] | None = None
    for first, scores in score_blocks(gradient, out_features, in_features, exclude, block_rows):
        if best is None:
            best = np.empty((out_features, k), scores.dtype)
        for r, row in enumerate(scores, first):
            chosen = _best(row, k)
            columns[r], best[r] = chosen, row[chosen]
    if best is None:
        raise ValueError("out_features must be positive, got 0")
    columns[best < 0] = -1
    return columns, best


def top_layer(
    gradient: Gradient,
    out_features: int,
    in_features: int,
    n: int,
    exclude: Pattern | None = None,
    block_rows: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the best n entries of the layer.

    Args:
        gradient: See `gradient_of`.
        out_features: Rows.
        in_features: Columns.
        n: Entries.
        exclude: Weights that are not candidates.
        block_rows: Rows that are computed at once.

    Returns:
        Places row * in + column (n or fewer,) int64, and scores, best first.

    Raises:
        ValueError: If n is not positive.
    """
    blocks = score_blocks(gradient, out_features, in_features, exclude, block_rows)
    return top_blocks(blocks, in_features, n, above=-1.0)


def top_blocks(
    blocks: Iterable[tuple[int, NDArray[Any]]],
    in_features: int,
    n: int,
    above: float = -np.inf,
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the best n scores of blocks of rows.

    Args:
        blocks: First row, and scores (rows, in) of any finite value, in order.
        in_features: Columns.
        n: Entries.
        above: Only scores above this one are candidates.

    Returns:
        Places row * in + column (n or fewer,) int64, and scores, best first.

    Raises:
        ValueError: If n is not positive, or there are no blocks.
    """
    if n < 1:
        raise ValueError(f"n must be positive, got {n}")
    places: list[NDArray[np.int64]] = []
    found: list[NDArray[Any]] = []
    held, threshold = 0, above
    for first, scores in blocks:
        flat = scores.ravel()
        here = np.flatnonzero(flat > threshold)
        if here.size > n:
            here = here[np.sort(_best(flat[here], n))]
        places.append(here + first * in_features)
        found.append(flat[here])
        held += here.size
        if held >= 2 * n:
            places, found = _cut(places, found, n)
            held, threshold = n, float(found[0].min())
    if not found:
        raise ValueError("out_features must be positive, got 0")
    places, found = _cut(places, found, n)
    order = np.argsort(-found[0], kind="stable")
    return places[0][order], found[0][order]


def _best(scores: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Return where the k largest are, descending, equal ones in order of place."""
    if k >= scores.size:
        return np.argsort(-scores, kind="stable")[:k]
    kth = np.partition(scores, scores.size - k)[scores.size - k]
    above = np.flatnonzero(scores > kth)
    equal = np.flatnonzero(scores == kth)[: k - above.size]
    chosen = np.sort(np.concatenate([above, equal]))
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def _cut(
    places: list[NDArray[np.int64]], found: list[NDArray[Any]], n: int
) -> tuple[list[NDArray[np.int64]], list[NDArray[Any]]]:
    """Keep the best n candidates, in order of place."""
    place, score = np.concatenate(places), np.concatenate(found)
    chosen = np.sort(_best(score, n))
    return [place[chosen]], [score[chosen]]
