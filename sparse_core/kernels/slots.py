"""Compiled walks over the slots of a pattern; `sparse_core.kernels.format` says what they are.

Each walk takes a pattern's arrays: `columns`, `indptr` and `rows` of its stored groups. The weights
of a slot are `values[slot * group : (slot + 1) * group]`, fewer are used where the last group is
short.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.jit import kernel, once

DTYPES = ("float32", "float64", "uint8")
"""The dtypes of values that walks are compiled for."""


@cache
def name_of(dtype: np.dtype[Any]) -> str:
    """Return the name of a dtype, which NumPy makes anew each time it is asked."""
    return str(dtype.name)


def walks(array: NDArray[Any]) -> bool:
    """Whether an array is one that compiled walks take."""
    plain = array.flags.c_contiguous and array.flags.writeable
    return plain and array.dtype.isnative and name_of(array.dtype) in DTYPES


@once
def transpose_kernel(index: str, rows_index: str, place: str) -> Any:
    """Return the walk that orders weights by column, rows ascending: a counting sort.

    Args:
        index: The dtype of `columns`.
        rows_index: That of the rows it writes.
        place: That of the places it writes.

    Returns:
        A function of (columns, indptr, rows, group, out_features, by_column (in + 1,), found
        (nnz,), source (nnz,)), of which the last three are written.
    """

    @kernel(
        f"void({index}[::1], int64[::1], int32[::1], int64, int64, int64[::1], "
        f"{rows_index}[::1], {place}[::1])"
    )
    def transpose(columns, indptr, rows, group, out_features, by_column, found, source):
        by_column[:] = 0
        for i in range(rows.size):
            used = min(group, out_features - rows[i] * group)
            for slot in range(indptr[i], indptr[i + 1]):
                by_column[np.int64(columns[slot]) + 1] += used
        for j in range(1, by_column.size):
            by_column[j] += by_column[j - 1]
        for i in range(rows.size):
            first = rows[i] * group
            used = min(group, out_features - first)
            for slot in range(indptr[i], indptr[i + 1]):
                j = np.int64(columns[slot])
                at = by_column[j]
                for r in range(used):
                    found[at + r] = first + r
                    source[at + r] = slot * group + r
                by_column[j] = at + used
        for j in range(by_column.size - 1, 0, -1):
            by_column[j] = by_column[j - 1]
        by_column[0] = 0

    return transpose


@once
def condense_kernel(index: str, dtype: str) -> Any:
    """Return the walk that takes the values of weights from a dense matrix.

    Returns:
        A function of (columns, indptr, rows, group, dense (out, in), values), which is written
        where weights are.
    """

    @kernel(f"void({index}[::1], int64[::1], int32[::1], int64, {dtype}[:, ::1], {dtype}[::1])")
    def condense(columns, indptr, rows, group, dense, values):
        for i in range(rows.size):
            first = rows[i] * group
            for r in range(min(group, dense.shape[0] - first)):
                for slot in range(indptr[i], indptr[i + 1]):
                    values[slot * group + r] = dense[first + r, columns[slot]]

    return condense


@once
def expand_kernel(index: str, dtype: str) -> Any:
    """Return the walk that writes values into a dense matrix.

    Returns:
        A function of (columns, indptr, rows, group, values, dense (out, in)), which is written
        where weights are.
    """

    @kernel(f"void({index}[::1], int64[::1], int32[::1], int64, {dtype}[::1], {dtype}[:, ::1])")
    def expand(columns, indptr, rows, group, values, dense):
        for i in range(rows.size):
            first = rows[i] * group
            for r in range(min(group, dense.shape[0] - first)):
                for slot in range(indptr[i], indptr[i + 1]):
                    dense[first + r, columns[slot]] = values[slot * group + r]

    return expand


@once
def order_kernel(index: str) -> Any:
    """Return the walk that lists weights in order of their positions, row by row.

    Returns:
        A function of (columns, indptr, rows, group, in_features, out_features, places (nnz,),
        positions (nnz,)), of which the last two are written: places in the values, and flat
        positions row * in + column.
    """

    @kernel(
        f"void({index}[::1], int64[::1], int32[::1], int64, int64, int64, int64[::1], int64[::1])"
    )
    def order(columns, indptr, rows, group, in_features, out_features, places, positions):
        at = 0
        for i in range(rows.size):
            first = rows[i] * group
            for r in range(min(group, out_features - first)):
                for slot in range(indptr[i], indptr[i + 1]):
                    places[at] = slot * group + r
                    positions[at] = (first + r) * in_features + columns[slot]
                    at += 1

    return order


@once
def places_kernel(index: str, old_index: str) -> Any:
    """Return the walk that finds the weights of one pattern in another of the same shape.

    Returns:
        A function of (columns, indptr, rows, group) of the one, the same of the other, the number
        of rows, and places, which is written where the one has weights: places in the values of
        the other, -1 for weights that it lacks.
    """

    @kernel(
        f"void({index}[::1], int64[::1], int32[::1], int64, {old_index}[::1], int64[::1], "
        "int32[::1], int64, int64, int64[::1])"
    )
    def find(columns, indptr, rows, group, there, begins, lines, width, out_features, places):
        k = 0
        for i in range(rows.size):
            first = rows[i] * group
            for row in range(first, min(first + group, out_features)):
                while k < lines.size and (lines[k] + 1) * width <= row:
                    k += 1
                at = stop = 0
                if k < lines.size and lines[k] * width <= row:
                    at, stop = begins[k], begins[k + 1]
                for slot in range(indptr[i], indptr[i + 1]):
                    while at < stop and there[at] < columns[slot]:
                        at += 1
                    place = slot * group + row - first
                    if at < stop and there[at] == columns[slot]:
                        places[place] = at * width + row - lines[k] * width
                    else:
                        places[place] = -1

    return find


@once
def count_kernel() -> Any:
    """Return the walk that counts chosen slots.

    Returns:
        A function of (indptr, rows, chosen (slots,) bool, counts), of which `counts[row]` is
        written for each of the rows.
    """

    @kernel("void(int64[::1], int32[::1], boolean[::1], int64[::1])")
    def count(indptr, rows, chosen, counts):
        for i in range(rows.size):
            found = np.int32(0)
            for slot in range(indptr[i], indptr[i + 1]):
                found = np.int32(found + np.int32(chosen[slot]))
            counts[rows[i]] = found

    return count
