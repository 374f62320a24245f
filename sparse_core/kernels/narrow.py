"""The weights of a pattern in some columns: what a batch of few features reads of a wide layer."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.format import Pattern, index_dtype
from sparse_core.kernels.jit import kernel, once


def narrowed(pattern: Pattern, columns: NDArray[np.int64]) -> tuple[Pattern, NDArray[np.int64]]:
    """Return the weights of a pattern in some of its columns.

    Args:
        pattern: The whole.
        columns: (n,) int64, ascending, each once.

    Returns:
        A pattern of n columns, and for each of its slots the slot of the whole.
    """
    index = index_dtype(columns.size)
    at = np.full(pattern.in_features, -1, np.int32)
    at[columns] = np.arange(columns.size, dtype=np.int32)
    lengths = np.zeros(pattern.groups, np.int64)
    _count_kernel(pattern.index)(pattern.columns, pattern.indptr, at, lengths)
    stored = np.flatnonzero(lengths)
    indptr = np.concatenate([[0], np.cumsum(lengths[stored])]).astype(np.int64)
    found, slots = np.empty(indptr[-1], index), np.empty(indptr[-1], np.int64)
    run = _collect_kernel(pattern.index, str(index.name))
    run(pattern.columns, pattern.indptr, stored, at, found, slots)
    shape = max(1, columns.size), pattern.out_features, pattern.group
    return Pattern(*shape, found, indptr, pattern.rows[stored]), slots


@once
def _count_kernel(index: str) -> Any:
    @kernel(f"void({index}[::1], int64[::1], int32[::1], int64[::1])")
    def count(columns, indptr, at, lengths):
        for i in range(lengths.size):
            found = 0
            for slot in range(indptr[i], indptr[i + 1]):
                found += at[columns[slot]] >= 0
            lengths[i] = found

    return count


@once
def _collect_kernel(index: str, narrow: str) -> Any:
    @kernel(f"void({index}[::1], int64[::1], int64[::1], int32[::1], {narrow}[::1], int64[::1])")
    def collect(columns, indptr, stored, at, found, slots):
        n = 0
        for i in stored:
            for slot in range(indptr[i], indptr[i + 1]):
                place = at[columns[slot]]
                if place >= 0:
                    found[n], slots[n] = place, slot
                    n += 1

    return collect
