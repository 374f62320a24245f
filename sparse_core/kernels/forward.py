"""Products of a condensed matrix with blocked activations: rows of it, or of its transpose.

Every kernel splits its work into (tile of samples) x (chunk of rows); a chunk is given by its
bounds, so that threads get equal numbers of weights. With one chunk and `parallel=False` the same
source is a plain loop.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sparse_core.kernels import isa
from sparse_core.kernels.jit import inlined, kernel, once
from sparse_core.kernels.pack import tile_packer, tile_unpacker
from sparse_core.kernels.simd import at
from sparse_core.kernels.tiles import RELU, tile_forward


@once
def tile_multiplier(group: int, tile: int, relu: bool, tail: bool) -> Any:
    """Return a function that computes groups `first` to `last` of y = act(W x + b) on one tile.

    It takes (values, columns, indptr, rows, x, x_base, bias, out, out_base, height, first, last,
    valid): flat arrays and where the tile begins in them, the rows of y, and the tile's samples.
    """
    machine = isa.host()
    lanes, some = machine.vector(tile), machine.rows_together(group)
    sub, unroll = machine.register_tile(some, tile), machine.unroll(some, tile)
    act = RELU if relu else 0
    sub1, unroll1 = machine.register_tile(1, tile), machine.unroll(1, tile)

    @inlined
    def multiply_tile(
        values, columns, indptr, rows, x, x_base, bias, out, out_base, height, first, last, valid
    ):
        for i in range(first, last):
            start, row = indptr[i], rows[i] * group
            n = indptr[i + 1] - start
            here = out_base + row * tile
            if tail and row + group > height:
                for r in range(height - row):
                    for part in range(0, tile, sub1):
                        tile_forward(
                            1, group, tile, sub1, lanes, unroll1, act,
                            at(values, start * group + r), at(columns, start), n,
                            at(x, x_base + part), at(bias, row + r),
                            at(out, here + r * tile + part),
                        )  # fmt: skip
            else:
                for part in range(0, tile, sub):
                    for r in range(0, group, some):
                        tile_forward(
                            some, group, tile, sub, lanes, unroll, act,
                            at(values, start * group + r), at(columns, start), n,
                            at(x, x_base + part), at(bias, row + r),
                            at(out, here + r * tile + part),
                        )  # fmt: skip
            if valid < tile:
                for r in range(row, min(row + group, height)):
                    for s in range(valid, tile):
                        out[out_base + r * tile + s] = 0

    return multiply_tile


@once
def tile_filler(tile: int, relu: bool) -> Any:
    """Return a function that writes rows without weights of one tile: act(b).

    It takes (absent, bias, out, base, valid), as `tile_multiplier`.
    """

    @inlined
    def fill_tile(absent, bias, out, base, valid):
        for r in absent:
            constant = bias[r]
            if relu and constant <= 0:
                constant = type(constant)(0)
            for s in range(tile):
                out[base + r * tile + s] = constant if s < valid else type(constant)(0)

    return fill_tile


@once
def forward_kernel(
    group: int, tile: int, index: str, relu: bool, tail: bool, parallel: bool
) -> Any:
    """Return the kernel of y = act(W x + b) in the blocked layout.

    Args:
        group: Rows that share their columns.
        tile: Samples of a tile.
        index: Name of the type of the column indices.
        relu: Whether max(., 0) is applied to the result.
        tail: Whether the last group may have fewer than `group` rows.
        parallel: Whether tasks run on Numba's threads.

    Returns:
        A function of (values, columns, indptr, rows, absent, x, bias, out, bounds, batch); see
        `sparse_core.kernels.checked.forward` for their meaning.
    """
    multiply_tile = tile_multiplier(group, tile, relu, tail)
    fill_tile = tile_filler(tile, relu)

    @kernel(
        f"void(float32[::1], {index}[::1], int64[::1], int32[::1], int32[::1], "
        "float32[:, :, ::1], float32[::1], float32[:, :, ::1], int64[::1], int64)",
        parallel=parallel,
    )
    def forward(values, columns, indptr, rows, absent, x, bias, out, bounds, batch):
        chunks, features, height = bounds.size - 1, x.shape[1], out.shape[1]
        flat_x, flat_out = x.reshape(-1), out.reshape(-1)
        for task in prange(x.shape[0] * chunks):
            t, chunk = task // chunks, task % chunks
            base, valid = t * height * tile, min(tile, batch - t * tile)
            multiply_tile(
                values, columns, indptr, rows, flat_x, t * features * tile, bias, flat_out,
                base, height, bounds[chunk], bounds[chunk + 1], valid,
            )  # fmt: skip
            if chunk == 0:
                fill_tile(absent, bias, flat_out, base, valid)

    return forward


@once
def rows_forward_kernel(
    group: int, tile: int, index: str, relu: bool, tail: bool, parallel: bool
) -> Any:
    """Return the kernel of y = act(W x + b) on ordinary rows.

    A tile is packed, multiplied and unpacked while it is in the cache. `scratch` has a tile of
    products for each thread, which its tiles overwrite one after the other; `packed` has the same,
    or as many tiles as the batch where they are to be kept. The values of each thread begin `copy`
    numbers after the last one's; with 0, all read the same.

    Args:
        group: Rows that share their columns.
        tile: Samples of a tile.
        index: Name of the type of the column indices.
        relu: Whether max(., 0) is applied to the result.
        tail: Whether the last group may have fewer than `group` rows.
        parallel: Whether tiles run on Numba's threads.

    Returns:
        A function of (values, columns, indptr, rows, absent, x, bias, out, packed, scratch, copy).
    """
    multiply_tile = tile_multiplier(group, tile, relu, tail)
    fill_tile = tile_filler(tile, relu)
    pack_tile, unpack_tile = tile_packer(tile), tile_unpacker(tile)

    @kernel(
        f"void(float32[::1], {index}[::1], int64[::1], int32[::1], int32[::1], float32[:, ::1], "
        "float32[::1], float32[:, ::1], float32[:, :, ::1], float32[:, :, ::1], int64)",
        parallel=parallel,
    )
    def rows_forward(values, columns, indptr, rows, absent, x, bias, out, packed, scratch, copy):
        batch, features = x.shape
        height, workers, tiles = out.shape[1], scratch.shape[0], (x.shape[0] + tile - 1) // tile
        flat_x, flat_y = packed.reshape(-1), scratch.reshape(-1)
        for worker in prange(workers):
            y_base = worker * height * tile
            mine = values[np.int64(worker) * copy :]
            for t in range(tiles * worker // workers, tiles * (worker + 1) // workers):
                valid = min(tile, batch - t * tile)
                x_base = (
                    (np.int64(t) if packed.shape[0] == tiles else np.int64(worker))
                    * features
                    * tile
                )
                pack_tile(x, t * tile, valid, flat_x, x_base, 0, features)
                multiply_tile(
                    mine, columns, indptr, rows, flat_x, x_base, bias, flat_y, y_base, height,
                    0, rows.size, tile,
                )  # fmt: skip
                fill_tile(absent, bias, flat_y, y_base, tile)
                unpack_tile(flat_y, y_base, out, t * tile, valid, 0, height)

    return rows_forward
