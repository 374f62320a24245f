"""Bands of columns: the order of work in which what a product reads fits the first-level cache.

A row of a product reads a tile of samples for each of its weights, `in_features * tile * 4` bytes
in all, which soon outgrow the first-level cache. Here columns are cut into bands, and a band is
finished for all rows before the next. Within a band, rows are taken in the order of their number
of weights there, so that the inner loop runs equally often for many rows in turn and its exit is
predicted: without that, bands lose. Values stay where the pattern has them: an entry, a row's part
in a band, says where its first value lies, and offsets of columns are stored in the order of use.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.format import Pattern
from sparse_core.kernels.jit import kernel, once

AHEAD = 3
"""Entries between a prefetch and its use; arrays of entries have as many more at their end."""

FIRST, LAST = 1, 2
"""Flags of a run: its band is the first, or the last, of the rows."""

UNIT = 8
"""Bytes that an offset counts: what an address of x86 and ARM multiplies with for nothing."""

_LEAST_BYTES = 48 << 10  # of a tile in a band: what was best with caches of 32 and of 48 KiB
_ENOUGH = 12  # weights of a row in a band, below which wider bands are better
_MOST_BYTES = UNIT << 16  # that offsets of 16 bits reach


@dataclass(frozen=True)
class Bands:
    """The order of work of one pass over a matrix, or over its transpose.

    Attributes:
        width: Columns of a band.
        offsets: (slots,) uint16. Of each slot, in the order of use: from the band's first column
            to the slot's in a tile of samples, in units of `UNIT` bytes.
        starts: (entries + AHEAD,) int32. Place of each entry's first slot: in the pattern's order
            or, for the transpose, in that of `source`.
        order: (entries + AHEAD,) int32. The group of rows that each entry belongs to.
        runs: (runs, 6) int64. Entries of a band with equally many slots: first column, slots of
            an entry, first and last entry, first slot in the order of use, and flags.
        parts: (parts + 1,) int64. Runs at which the parts of the work begin.
        source: (slots,) int32. For the transpose: the place of each slot's value; else empty.
    """

    width: int
    offsets: NDArray[np.uint16]
    starts: NDArray[np.int32]
    order: NDArray[np.int32]
    runs: NDArray[np.int64]
    parts: NDArray[np.int64]
    source: NDArray[np.int32]

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """What kernels take of it, bar `parts`: offsets, starts, order and runs."""
        return self.offsets, self.starts, self.order, self.runs

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(array.nbytes for array in (*self.arrays, self.parts, self.source))


@cache
def first_level_bytes() -> int:
    """Return the size of the first-level data cache; 32 KiB where the system does not say."""
    try:
        return os.sysconf("SC_LEVEL1_DCACHE_SIZE") or 32 << 10
    except (AttributeError, ValueError, OSError):
        return 32 << 10


def width_of(features: int, slots: int, rows: int, tile: int) -> int | None:
    """Return how many columns a band had best have, or None where bands do not pay.

    A band holds what fits the first-level cache or somewhat more (48 KiB were best with caches of
    32 KiB and hardly worse than 32 KiB with one of 48), and more where rows would have fewer than
    `_ENOUGH` slots in it: then the start of a row costs more than the cache gives. Bands are about
    equally wide, and a matrix that would have less than two has one.

    Args:
        features: Columns of the matrix.
        slots: Its stored columns.
        rows: Its groups of rows.
        tile: Samples of a tile.
    """
    if slots == 0:
        return None
    cached = max(_LEAST_BYTES, first_level_bytes()) / (4 * tile)
    bands = max(1, int(features / max(cached, _ENOUGH * features * rows / slots)))
    width = -(-features // bands)
    return width if width * tile * 4 <= _MOST_BYTES else None


def of_rows(pattern: Pattern, width: int, tile: int, bounds: NDArray[np.int64]) -> Bands:
    """Return the bands of a pattern, for products with it and gradients of its values.

    Args:
        pattern: The pattern.
        width: Columns of a band; `width * tile * 4` is at most 512 KiB.
        tile: Samples of a tile.
        bounds: (parts + 1,) stored groups at which the parts of the work begin.
    """
    counts = np.zeros((-(-pattern.in_features // width), pattern.groups), np.int32)
    _count_rows(pattern.index)(pattern.columns, pattern.indptr, width, counts)
    order, runs, parts, begins = _sorted(counts, width, bounds)
    offsets, starts = np.empty(pattern.slots, np.uint16), np.zeros(order.size, np.int32)
    firsts = np.cumsum(counts, 0, dtype=np.int32) - counts + pattern.indptr[:-1].astype(np.int32)
    _look_up()(runs, order, firsts, width, starts)
    unit = tile * 4 // UNIT
    _fill_rows(pattern.index)(pattern.columns, pattern.indptr, width, unit, begins, offsets)
    rows = pattern.rows[order]
    return Bands(width, offsets, starts, rows, runs, parts, np.empty(0, np.int32))


def of_columns(pattern: Pattern, width: int, tile: int, bounds: NDArray[np.int64]) -> Bands:
    """Return the bands of the transpose of a pattern of rows of their own (`group=1`).

    Args:
        pattern: The pattern.
        width: Rows of the pattern, which are the transpose's columns, of a band.
        tile: Samples of a tile.
        bounds: (parts + 1,) columns at which the parts of the work begin.
    """
    counts = np.zeros((-(-pattern.out_features // width), pattern.in_features), np.int32)
    index = pattern.columns, pattern.indptr, pattern.rows, width
    _count_columns(pattern.index)(*index, counts)
    order, runs, parts, begins = _sorted(counts, width, bounds)
    offsets, starts = np.empty(pattern.slots, np.uint16), np.zeros(order.size, np.int32)
    _look_up()(runs, order, begins, width, starts)
    source = np.empty(pattern.slots, np.int32)
    _fill_columns(pattern.index)(*index, tile * 4 // UNIT, begins, offsets, source)
    return Bands(width, offsets, starts, order, runs, parts, source)


def _sorted(
    counts: NDArray[np.int32], width: int, bounds: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Sort the entries of each part and band by their slots.

    Args:
        counts: (bands, rows) slots of each row in each band.
        width: Columns of a band.
        bounds: (parts + 1,) rows at which the parts begin.

    Returns:
        `order`, here with rows by their number, `runs` and `parts` as in `Bands`, and for each
        band and row the first slot in the order of use, (bands, rows) int32.
    """
    bands, most = counts.shape[0], int(counts.max(initial=0))
    order, begins = np.zeros(counts.size + AHEAD, np.int32), np.empty_like(counts)
    runs = np.empty(((bounds.size - 1) * bands * (most + 1), 6), np.int64)
    parts = np.zeros(bounds.size, np.int64)
    _sort_entries()(counts, width, bounds, np.empty(most + 2, np.int64), order, runs, parts, begins)
    return order, runs[: parts[-1]], parts, begins


@once
def _count_rows(index: str) -> Any:
    """Return the kernel that counts slots by band and group: (columns, indptr, width, counts)."""

    @kernel(f"void({index}[::1], int64[::1], int64, int32[:, ::1])")
    def count_rows(columns, indptr, width, counts):
        for i in range(indptr.size - 1):
            band, edge = 0, width
            for s in range(indptr[i], indptr[i + 1]):
                while columns[s] >= edge:
                    band, edge = band + 1, edge + width
                counts[band, i] += 1

    return count_rows


@once
def _count_columns(index: str) -> Any:
    """Return the kernel that counts slots by band of rows and column.

    Returns:
        A function of (columns, indptr, rows, width, counts).
    """

    @kernel(f"void({index}[::1], int64[::1], int32[::1], int64, int32[:, ::1])")
    def count_columns(columns, indptr, rows, width, counts):
        for i in range(rows.size):
            band = rows[i] // width
            for s in range(indptr[i], indptr[i + 1]):
                counts[band, columns[s]] += 1

    return count_columns


@once
def _sort_entries() -> Any:
    """Return the kernel of `_sorted`: a counting sort of each part and band.

    Returns:
        A function of (counts, width, bounds, heads, order, runs, parts, begins).
    """

    @kernel(
        "void(int32[:, ::1], int64, int64[::1], int64[::1], int32[::1], int64[:, ::1], "
        "int64[::1], int32[:, ::1])"
    )
    def sort_entries(counts, width, bounds, heads, order, runs, parts, begins):
        bands, entry, slot, run = counts.shape[0], 0, 0, 0
        for part in range(bounds.size - 1):
            first, last = bounds[part], bounds[part + 1]
            for band in range(bands):
                flags = FIRST * (band == 0) + LAST * (band == bands - 1)
                heads[:] = 0
                for i in range(first, last):
                    heads[counts[band, i] + 1] += 1
                here = entry
                for n in range(heads.size - 1):
                    rows = heads[n + 1]
                    heads[n + 1] = here + rows
                    if rows and (n or flags):
                        runs[run, 0], runs[run, 1], runs[run, 2] = band * width, n, here
                        runs[run, 3], runs[run, 4], runs[run, 5] = here + rows, slot, flags
                        run += 1
                    here += rows
                    slot += n * rows
                heads[0] = entry
                for i in range(first, last):
                    n = counts[band, i]
                    order[heads[n]] = i
                    heads[n] += 1
                entry = here
            parts[part + 1] = run
        order[entry:] = order[0]
        for r in range(run):
            band, n, slot = runs[r, 0] // width, runs[r, 1], runs[r, 4]
            for e in range(runs[r, 2], runs[r, 3]):
                begins[band, order[e]] = slot
                slot += n

    return sort_entries


@once
def _look_up() -> Any:
    """Return the kernel that takes numbers of a (bands, rows) table in the order of entries.

    Returns:
        A function of (runs, order, table, width, out).
    """

    @kernel("void(int64[:, ::1], int32[::1], int32[:, ::1], int64, int32[::1])")
    def look_up(runs, order, table, width, out):
        for r in range(runs.shape[0]):
            band = runs[r, 0] // width
            for e in range(runs[r, 2], runs[r, 3]):
                out[e] = table[band, order[e]]

    return look_up


@once
def _fill_rows(index: str) -> Any:
    """Return the kernel that writes offsets: (columns, indptr, width, unit, begins, offsets)."""

    @kernel(f"void({index}[::1], int64[::1], int64, int64, int32[:, ::1], uint16[::1])")
    def fill_rows(columns, indptr, width, unit, begins, offsets):
        for i in range(indptr.size - 1):
            band, edge, slot = 0, width, begins[0, i]
            for s in range(indptr[i], indptr[i + 1]):
                column = columns[s]
                if column >= edge:
                    while column >= edge:
                        band, edge = band + 1, edge + width
                    slot = begins[band, i]
                offsets[slot] = (column - edge + width) * unit
                slot += 1

    return fill_rows


@once
def _fill_columns(index: str) -> Any:
    """Return the kernel that writes offsets and places of values, and moves `begins` on.

    Returns:
        A function of (columns, indptr, rows, width, unit, begins, offsets, source).
    """

    @kernel(
        f"void({index}[::1], int64[::1], int32[::1], int64, int64, int32[:, ::1], uint16[::1], "
        "int32[::1])"
    )
    def fill_columns(columns, indptr, rows, width, unit, begins, offsets, source):
        for i in range(rows.size):
            band = rows[i] // width
            offset = (rows[i] - band * width) * unit
            for s in range(indptr[i], indptr[i + 1]):
                slot = begins[band, columns[s]]
                begins[band, columns[s]] = slot + 1
                offsets[slot] = offset
                source[slot] = s

    return fill_columns
