"""Uniform draws of free cells, lane by lane, at a cost that follows what is drawn.

A lane's numbers are a function of a seed and of the lane, so blocks of lanes draw what all lanes
would draw together, on any machine. They are SplitMix64 (Steele, Lea and Flood 2014), whose state
begins at a hash of both.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.format import Pattern, index_dtype
from sparse_core.kernels.jit import inlined, kernel, once

Places = NDArray[np.int64]

_LANES = 1 << 16  # lanes of a first topology that are drawn at once
_FEW = 40  # numbers that are sorted by counting those below each


def draw_outside(
    pattern: Pattern, taken: NDArray[np.bool_], counts: NDArray[np.int64], seed: int
) -> Places:
    """Draw `counts[i]` cells of lane i, uniformly and without replacement.

    Args:
        pattern: The active weights.
        taken: (slots,) bool, slots whose cells cannot be drawn.
        counts: (lanes,) int64; fewer are drawn where fewer are free.
        seed: Of 63 bits.

    Returns:
        Places lane * in + column, ascending.
    """
    out = np.empty(int(counts.sum()), np.int64)
    found = _draw_kernel(pattern.index)(
        pattern.columns, pattern.indptr, pattern.rows, np.ascontiguousarray(taken),
        pattern.in_features, np.ascontiguousarray(counts), seed, 0, out,
    )  # fmt: skip
    return out[:found]


def random_pattern(
    in_features: int, out_features: int, lengths: NDArray[np.int64], group: int, seed: int
) -> Pattern:
    """Draw the columns of each group uniformly; nothing as large as the matrix is made.

    Args:
        in_features: Columns of the matrix.
        out_features: Rows of the matrix.
        lengths: (ceil(out / group),) int64, slots of each group.
        group: Consecutive rows that share their columns.
        seed: Of 63 bits.
    """
    index = index_dtype(in_features)
    columns, filled = np.empty(int(lengths.sum()), index), 0
    draw = _draw_kernel(str(index.name))
    bare = Pattern(
        in_features, 1, 1, np.empty(0, index), np.zeros(1, np.int64), np.empty(0, np.int32)
    )
    nothing = bare.columns, bare.indptr, bare.rows, np.empty(0, np.bool_)
    for first in range(0, lengths.size, _LANES):
        counts = np.ascontiguousarray(lengths[first : first + _LANES])
        places = np.empty(int(counts.sum()), np.int64)
        found = draw(*nothing, in_features, counts, seed, first, places)
        columns[filled : filled + found] = places[:found] % in_features
        filled += found
    return Pattern.from_lengths(columns, lengths, in_features, out_features, group)


@inlined
def mixed(state):
    """Hash 64 bits, the output function of SplitMix64."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@once
def _draw_kernel(index: str) -> Any:
    """Return the kernel of `draw_outside`; the first lane has the number `origin`.

    Where few cells of a lane are free they are listed, elsewhere numbers are drawn until a free
    cell is met.
    """
    hashed, few = mixed, _FEW

    @kernel(
        f"int64({index}[::1], int64[::1], int32[::1], boolean[::1], int64, int64[::1], int64, "
        "int64, int64[::1])"
    )
    def draw(columns, indptr, rows, taken, width, counts, seed, origin, out):
        step, half = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
        held, free = np.zeros(width, np.bool_), np.empty(width, np.int64)
        line = np.empty(few, np.int32)
        begin = hashed(np.uint64(seed) + step)
        found = stored = 0
        for lane in range(counts.size):
            first = last = 0
            if stored < rows.size and rows[stored] == lane:
                first, last = indptr[stored], indptr[stored + 1]
                stored += 1
            count = counts[lane]
            if count <= 0:
                continue
            kept = 0
            for slot in range(first, last):
                held[columns[slot]] = taken[slot]
                kept += taken[slot]
            state = hashed(begin ^ hashed(np.uint64(lane + origin) + step))
            here, base = found, lane * width
            if 2 * (kept + count) <= width:
                while found - here < count:
                    state += step
                    column = np.int64(((hashed(state) >> half) * np.uint64(width)) >> half)
                    out[found] = column
                    found += not held[column]
                    held[column] = True
            else:
                left = 0
                for column in range(width):
                    free[left] = column
                    left += not held[column]
                for drawn in range(min(count, left)):
                    state += step
                    reach = np.uint64(left - drawn)
                    other = drawn + np.int64(((hashed(state) >> half) * reach) >> half)
                    free[drawn], free[other] = free[other], free[drawn]
                    out[found] = free[drawn]
                    found += 1
            for slot in range(first, last):
                held[columns[slot]] = False
            for i in range(here, found):
                held[out[i]] = False
            if found - here > few:
                out[here:found].sort()
                for i in range(here, found):
                    out[i] += base
                continue
            size = found - here
            for i in range(size):
                line[i] = out[here + i]
            for i in range(size):  # without branches: a cell's place is how many come before it
                column, before = line[i], 0
                for other in range(size):
                    before += line[other] < column
                out[here + before] = base + column
        return found

    return draw
