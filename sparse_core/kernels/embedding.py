"""Rows of a condensed embedding by their tokens: gathered, and their gradients added up.

Only the rows of the tokens at hand are read and written. A row's gradients are added in the order
of its tokens whatever the number of threads, each of which has rows of its own: results are equal
to the bit.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from sparse_core.kernels import plan
from sparse_core.kernels.buffers import empty
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.threads import team

NOBODY = -1
"""A padding row that no token names."""


@once
def gather_kernel(index: str, parallel: bool) -> Any:
    """Return the kernel that puts the active weights of tokens into their columns.

    Args:
        index: Name of the type of columns.
        parallel: Whether chunks of tokens run on Numba's threads.

    Returns:
        A function of (values, columns, begins, tokens, out, chunks).
    """

    @kernel(
        f"void(float32[::1], {index}[::1], int64[::1], int64[::1], float32[:, ::1], int64)",
        parallel=parallel,
    )
    def gather(values, columns, begins, tokens, out, chunks):
        for chunk in prange(chunks):
            first, last = tokens.size * chunk // chunks, tokens.size * (chunk + 1) // chunks
            for i in range(first, last):
                out[i] = 0
                for slot in range(begins[tokens[i]], begins[tokens[i] + 1]):
                    out[i, columns[slot]] = values[slot]

    return gather


@once
def scatter_kernel(index: str, parallel: bool) -> Any:
    """Return the kernel that adds the gradients of tokens to those of their active weights.

    Args:
        index: Name of the type of columns.
        parallel: Whether chunks of rows run on Numba's threads: each looks at all tokens.

    Returns:
        A function of (gradient, columns, begins, tokens, padding, out, chunks); out holds zeros.
    """

    @kernel(
        f"void(float32[:, ::1], {index}[::1], int64[::1], int64[::1], int64, float32[::1], int64)",
        parallel=parallel,
    )
    def scatter(gradient, columns, begins, tokens, padding, out, chunks):
        for chunk in prange(chunks):
            for i in range(tokens.size):
                token = tokens[i]
                if token % chunks == chunk and token != padding:
                    for slot in range(begins[token], begins[token + 1]):
                        out[slot] += gradient[i, columns[slot]]

    return scatter


def look_up(
    pattern: Pattern,
    values: NDArray[np.float32],
    tokens: NDArray[np.int64],
    *,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Return the vectors of tokens, (n, in) float32.

    Args:
        pattern: The active weights of a (vocabulary, in) matrix, `group` 1.
        values: (capacity,) float32, `pattern.size` or more.
        tokens: (n,) int64, rows of the matrix.
        threads: Threads to use.

    Raises:
        IndexError: If a token is not a row.
        ValueError: If values are too few.
    """
    _check(pattern, values.size, tokens)
    out = empty(tokens.size, pattern.in_features)
    threads = plan.useful_threads(threads, out.size)
    run = gather_kernel(pattern.index, threads > 1)
    with team(threads):
        run(values, pattern.columns, _begins(pattern), tokens, out, threads)
    return out


def look_up_gradient(
    pattern: Pattern,
    gradient: NDArray[np.float32],
    tokens: NDArray[np.int64],
    capacity: int,
    *,
    padding: int | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Return the gradient of the values, (capacity,) float32, zero where no token is.

    Args:
        pattern: The active weights of a (vocabulary, in) matrix, `group` 1.
        gradient: (n, in) float32, of the tokens' vectors.
        tokens: (n,) int64, rows of the matrix.
        capacity: How many values there are.
        padding: A row that gets no gradient.
        threads: Threads to use.

    Raises:
        IndexError: If a token is not a row.
        ValueError: If a shape is wrong.
    """
    _check(pattern, capacity, tokens)
    if gradient.shape != (tokens.size, pattern.in_features):
        raise ValueError(
            f"gradient must be {(tokens.size, pattern.in_features)}, got {gradient.shape}"
        )
    out = np.zeros(capacity, np.float32)
    threads = plan.useful_threads(threads, gradient.size)
    run = scatter_kernel(pattern.index, threads > 1)
    row = NOBODY if padding is None else padding
    with team(threads):
        run(gradient, pattern.columns, _begins(pattern), tokens, row, out, threads)
    return out


def _begins(pattern: Pattern) -> NDArray[np.int64]:
    """Return where the slots of each row begin, (out + 1,) int64, absent rows included."""

    def make() -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(pattern.lengths, dtype=np.int64)]).astype(np.int64)

    return plan.keep(pattern, ("begins",), make)


def _check(pattern: Pattern, capacity: int, tokens: NDArray[np.int64]) -> None:
    if capacity < pattern.size or pattern.group != 1:
        raise ValueError(
            f"needs {pattern.size} values of rows with columns of their own, got {capacity} and "
            f"groups of {pattern.group}"
        )
    if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) < pattern.out_features:
        raise IndexError(
            f"tokens must be in [0, {pattern.out_features}), got {int(tokens.min())} to "
            f"{int(tokens.max())}"
        )
