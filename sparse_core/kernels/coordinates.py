"""Patterns by flat positions row * in + column, and the rows of a pattern: no masks are made."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import slots
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.jit import kernel, once

Positions = NDArray[np.int64]
"""Flat positions in an (out, in) matrix."""


def ordered(pattern: Pattern) -> tuple[Positions, Positions]:
    """List the active weights, row by row.

    Returns:
        Their places in `values`, (nnz,), and their positions, (nnz,) ascending.
    """
    places, positions = np.empty(pattern.nnz, np.int64), np.empty(pattern.nnz, np.int64)
    slots.order_kernel(pattern.index)(
        pattern.columns, pattern.indptr, pattern.rows, pattern.group,
        pattern.in_features, pattern.out_features, places, positions,
    )  # fmt: skip
    return places, positions


def positions_of(pattern: Pattern) -> Positions:
    """Return the (nnz,) positions of the active weights, ascending."""
    return ordered(pattern)[1]


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


def set_bits(bits: NDArray[Any], positions: Positions) -> None:
    """Set bits in place, in the order of `np.packbits`.

    Args:
        bits: Bytes, as uint8 or as floats that hold whole numbers.
        positions: (n,) int64, which bits.
    """
    _set_bits_kernel(slots.name_of(bits.dtype))(bits, positions)


@once
def _set_bits_kernel(dtype: str) -> Any:
    """Return the kernel of `set_bits`."""

    @kernel(f"void({dtype}[::1], int64[::1])")
    def put(bits, positions):
        for position in positions:
            bits[position >> 3] = np.int64(bits[position >> 3]) | (128 >> (position & 7))

    return put
