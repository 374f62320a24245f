"""Patterns by flat positions row * in + column, and the rows of a pattern: no masks are made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.format import Pattern

Positions = NDArray[np.int64]
"""Flat positions in an (out, in) matrix."""


def positions_of(pattern: Pattern) -> Positions:
    """Return the (nnz,) positions of the active weights, ascending."""
    rows, columns, _ = pattern.coordinates()
    flat = rows * pattern.in_features + columns
    return flat if pattern.group == 1 else np.sort(flat)


def from_positions(
    positions: Positions, in_features: int, out_features: int, group: int = 1
) -> Pattern:
    """Build the pattern of active weights at some positions.

    Args:
        positions: (nnz,) int64, ascending, each once.
        in_features: Columns of the matrix.
        out_features: Rows of the matrix.
        group: Consecutive rows that share their columns.

    Raises:
        ValueError: If the rows of a group differ, or a position is outside the matrix.
    """
    if positions.size and not 0 <= positions[0] <= positions[-1] < out_features * in_features:
        raise ValueError(f"positions must be below {out_features * in_features}, got others")
    rows, columns = np.divmod(positions, in_features)
    leads = rows % group == 0
    lengths = np.bincount(rows[leads] // group, minlength=-(-out_features // group))
    pattern = Pattern.from_lengths(columns[leads], lengths, in_features, out_features, group)
    if group > 1 and not np.array_equal(positions_of(pattern), positions):
        raise ValueError(f"rows of one group of {group} have different columns")
    return pattern


def rows_of(pattern: Pattern, first: int, last: int) -> tuple[Pattern, slice]:
    """Return the pattern of rows first to last, and where its values lie in those of the whole.

    Args:
        pattern: The whole.
        first: A multiple of its group.
        last: Another, or the number of its rows.
    """
    group = pattern.group
    low, high = np.searchsorted(pattern.rows, (first // group, -(-last // group)))
    begin, end = int(pattern.indptr[low]), int(pattern.indptr[high])
    part = Pattern(
        pattern.in_features,
        last - first,
        group,
        pattern.columns[begin:end],
        pattern.indptr[low : high + 1] - begin,
        pattern.rows[low:high] - np.int32(first // group),
    )
    return part, slice(begin * group, end * group)


def without(positions: Positions, removed: Positions) -> Positions:
    """Return the positions that are not among others; both ascending, each once."""
    if not removed.size:
        return positions
    at = np.searchsorted(removed, positions)
    at[at == removed.size] = 0
    left: Positions = positions[removed[at] != positions]
    return left
