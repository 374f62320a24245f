"""Products of a condensed matrix with blocked activations: rows of it, or of its transpose.

Every kernel splits its work into (tile of samples) x (chunk of rows); a chunk is given by its
bounds, so that threads get equal numbers of weights. With one chunk and `parallel=False` the same
source is a plain loop.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import prange

from sparse_core.kernels import isa
from sparse_core.kernels.jit import kernel
from sparse_core.kernels.simd import at
from sparse_core.kernels.tiles import RELU, tile_forward


@cache
def forward_kernel(group: int, tile: int, index: str, relu: bool, tail: bool, parallel: bool) -> Any:
    """Return the kernel of y = act(W x + b) on tiles of `tile` samples.

    Args:
        group: Rows that share their columns.
        tile: Samples of a tile.
        index: Name of the type of the column indices.
        relu: Whether max(., 0) is applied to the result.
        tail: Whether the last group may have fewer than `group` rows.
        parallel: Whether tasks run on Numba's threads.

    Returns:
        A function of (values, columns, indptr, rows, absent, x, bias, out, bounds, batch); see
        `sparse_core.kernels.cpu.forward` for their meaning.
    """
    machine = isa.host()
    lanes, sub = machine.vector(tile), machine.register_tile(group, tile)
    unroll, act = machine.unroll(group, tile), RELU if relu else 0
    sub1, unroll1 = machine.register_tile(1, tile), machine.unroll(1, tile)

    @kernel(
        f"void(float32[::1], {index}[::1], int64[::1], int32[::1], int32[::1], "
        "float32[:, :, ::1], float32[::1], float32[:, :, ::1], int64[::1], int64)",
        (group, tile, relu, tail),
        parallel=parallel,
    )
    def forward(
        values, columns, indptr, rows, absent, x, bias, out, bounds, batch
    ):  # type: ignore[no-untyped-def]
        chunks, features, height = bounds.size - 1, x.shape[1], out.shape[1]
        for task in prange(x.shape[0] * chunks):
            t, chunk = task // chunks, task % chunks
            valid = min(tile, batch - t * tile)
            for i in range(bounds[chunk], bounds[chunk + 1]):
                start, row = indptr[i], rows[i] * group
                n = indptr[i + 1] - start
                here = t * height + row
                if tail and row + group > height:
                    for r in range(height - row):
                        for part in range(0, tile, sub1):
                            tile_forward(
                                1, group, tile, sub1, lanes, unroll1, act,
                                at(values, start * group + r), at(columns, start), n,
                                at(x, t * features * tile + part), at(bias, row + r),
                                at(out, (here + r) * tile + part),
                            )  # fmt: skip
                else:
                    for part in range(0, tile, sub):
                        tile_forward(
                            group, group, tile, sub, lanes, unroll, act,
                            at(values, start * group), at(columns, start), n,
                            at(x, t * features * tile + part), at(bias, row),
                            at(out, here * tile + part),
                        )  # fmt: skip
                if valid < tile:
                    for r in range(row, min(row + group, height)):
                        out[t, r, valid:] = 0
            if chunk == 0:
                for r in absent:
                    constant = bias[r]
                    if relu and constant <= 0:
                        constant = type(constant)(0)
                    out[t, r, :valid] = constant
                    out[t, r, valid:] = 0

    return forward
