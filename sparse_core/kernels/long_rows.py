"""Product of a condensed matrix with a dense one whose rows lie in memory one after the other.

    out = W x        x (in, width), as the vectors of a graph's nodes

The kernels of layers want samples side by side, so that they pack x first. Here a row of x is a
vector of its own, and the sums of a row of W stay in registers.
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


@once
def product_kernel(index: str, width: int, parallel: bool) -> Any:
    """Return the kernel of W x.

    Args:
        index: Name of the type of columns.
        width: Columns of x.
        parallel: Whether parts of the rows run on Numba's threads.

    Returns:
        A function of (values, columns, indptr, rows, x, out, bounds); rows of out that W lacks are
        not written.
    """

    @kernel(
        f"void(float32[::1], {index}[::1], int64[::1], int32[::1], float32[:, ::1], "
        "float32[:, ::1], int64[::1])",
        parallel=parallel,
    )
    def product(values, columns, indptr, rows, x, out, bounds):
        for part in prange(bounds.size - 1):
            sums = np.empty(width, np.float32)
            for i in range(bounds[part], bounds[part + 1]):
                sums[:] = 0
                for slot in range(indptr[i], indptr[i + 1]):
                    value, column = values[slot], columns[slot]
                    for j in range(width):
                        sums[j] += value * x[column, j]
                for j in range(width):
                    out[rows[i], j] = sums[j]

    return product


def rows_product(
    pattern: Pattern,
    values: NDArray[np.float32],
    x: NDArray[np.float32],
    *,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Return W x, (out, width) float32.

    Args:
        pattern: The active weights of an (out, in) matrix, `group` 1.
        values: (capacity,) float32, `pattern.size` or more.
        x: (in, width) float32, contiguous.
        threads: Threads to use.

    Raises:
        ValueError: If a shape is wrong.
    """
    if pattern.group != 1 or values.size < pattern.size:
        raise ValueError(
            f"needs {pattern.size} values of rows with columns of their own, got {values.size} and "
            f"groups of {pattern.group}"
        )
    if x.ndim != 2 or len(x) != pattern.in_features:
        raise ValueError(f"x must be ({pattern.in_features}, width), got {x.shape}")
    width = x.shape[1]
    out = empty(pattern.out_features, width)
    out[pattern.absent] = 0
    threads = plan.useful_threads(threads, pattern.size * width)
    run = product_kernel(pattern.index, width, threads > 1)
    bounds = plan.row_bounds(pattern, threads)
    with team(threads):
        run(values, pattern.columns, pattern.indptr, pattern.rows, x, out, bounds)
    return out
