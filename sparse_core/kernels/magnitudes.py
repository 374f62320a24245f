"""Mean magnitudes in groups of rows, in one pass; they are the scores of most methods."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.buffers import empty
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.jit import kernel, once

Array = NDArray[np.float32]

_INFINITE = 0x7F800000  # bits of infinity; those of NaN are more


def of_matrix(matrix: Array, group: int) -> Array | None:
    """Return the mean magnitude of each column in each group of rows.

    Args:
        matrix: (rows, cols), contiguous.
        group: Rows of a group; the last one may have fewer.

    Returns:
        (groups, cols); None if an entry is NaN or infinite.
    """
    out = empty(-(-matrix.shape[0] // group), matrix.shape[1])
    return out if _matrix_kernel()(matrix, group, out) else None


def of_slots(pattern: Pattern, values: Array) -> Array | None:
    """Return the mean magnitude of each slot's weights.

    Args:
        pattern: The weights.
        values: (pattern.size or more,), in its layout.

    Returns:
        (slots,); None if one is NaN or infinite.
    """
    out, group = empty(pattern.slots), pattern.group
    tail, used = pattern.slots, group
    if pattern.tail:
        tail = int(pattern.indptr[-2])
        used = pattern.out_features - int(pattern.rows[-1]) * group
    return out if _slots_kernel()(values, group, tail, used, out) else None


@once
def _matrix_kernel() -> Any:
    """Return the kernel of `of_matrix`, which tells whether all entries are finite."""
    infinite = _INFINITE

    @kernel("boolean(float32[:, ::1], int64, float32[:, ::1])")
    def mean(matrix, group, out):
        rows, width = matrix.shape
        worst = np.int32(0)
        for lane in range(out.shape[0]):
            first, last = lane * group, min(lane * group + group, rows)
            line = out[lane]
            for j in range(width):
                line[j] = abs(matrix[first, j])
            for row in range(first + 1, last):
                for j in range(width):
                    line[j] += abs(matrix[row, j])
            if group > 1:
                size = np.float32(last - first)
                for j in range(width):
                    line[j] /= size
            bits = line.view(np.int32)
            for j in range(width):
                worst = max(worst, bits[j])
        return worst < infinite

    return mean


@once
def _slots_kernel() -> Any:
    """Return the kernel of `of_slots`: of slots from `tail` on, only `used` weights are used."""
    infinite = _INFINITE

    @kernel("boolean(float32[::1], int64, int64, int64, float32[::1])")
    def mean(values, group, tail, used, out):
        for slot in range(out.size):
            size = group if slot < tail else used
            total = abs(values[slot * group])
            for r in range(1, size):
                total += abs(values[slot * group + r])
            out[slot] = total / np.float32(size)
        worst, bits = np.int32(0), out.view(np.int32)
        for slot in range(out.size):
            worst = max(worst, bits[slot])
        return worst < infinite

    return mean
