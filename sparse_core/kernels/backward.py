"""Gradients of a condensed layer in the blocked layout.

The gradient of the input is a product with the transposed matrix. With rows of their own columns
(`group=1`) it is computed by the forward kernel on a transposed copy of the weights; with groups,
or where that copy is too dear, by adding into a tile of the result, which one thread owns, so
that there is neither a race nor an atomic. The gradient of the weights is computed at stored
slots only.
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
from sparse_core.kernels.tiles import tile_dots, tile_scatter, tile_sum


@once
def tile_scatterer(group: int, tile: int, tail: bool) -> Any:
    """Return a function that computes a range of columns of dx = W^T dy on one tile.

    It takes (values, columns, indptr, rows, dy, dy_base, height, dx, dx_base, begins, ends, first,
    last): flat arrays and where the tile begins in them, the rows of dy, the slots (groups,) at
    which each group enters and leaves the range, and the range.
    """
    machine = isa.host()
    lanes, some = machine.vector(tile), machine.rows_together(group)
    sub, sub1 = machine.register_tile(some, tile), machine.register_tile(1, tile)

    @inlined
    def scatter_tile(
        values, columns, indptr, rows, dy, dy_base, height, dx, dx_base, begins, ends, first, last
    ):
        dx[dx_base + first * tile : dx_base + last * tile] = 0
        for i in range(rows.size):
            start, n = indptr[i] + begins[i], ends[i] - begins[i]
            row = rows[i] * group
            here = dy_base + row * tile
            if tail and row + group > height:
                for r in range(height - row):
                    for s in range(0, tile, sub1):
                        tile_scatter(
                            1, group, tile, sub1, lanes,
                            at(values, start * group + r), at(columns, start), n,
                            at(dy, here + r * tile + s), at(dx, dx_base + s),
                        )  # fmt: skip
            else:
                for s in range(0, tile, sub):
                    for r in range(0, group, some):
                        tile_scatter(
                            some, group, tile, sub, lanes,
                            at(values, start * group + r), at(columns, start), n,
                            at(dy, here + r * tile + s), at(dx, dx_base + s),
                        )  # fmt: skip

    return scatter_tile


@once
def scatter_kernel(group: int, tile: int, index: str, tail: bool, parallel: bool) -> Any:
    """Return the kernel of dx = W^T dy that adds into dx, in the blocked layout.

    A task owns a tile of samples and a range of columns; `splits` (ranges + 1, groups) says where
    each group of sorted columns enters a range, and `edges` (ranges + 1,) where ranges begin.

    Args:
        group: Rows that share their columns.
        tile: Samples of a tile.
        index: Name of the type of the column indices.
        tail: Whether the last group may have fewer than `group` rows.
        parallel: Whether tasks run on Numba's threads.

    Returns:
        A function of (values, columns, indptr, rows, dy, dx, splits, edges).
    """
    scatter_tile = tile_scatterer(group, tile, tail)

    @kernel(
        f"void(float32[::1], {index}[::1], int64[::1], int32[::1], float32[:, :, ::1], "
        "float32[:, :, ::1], int32[:, ::1], int64[::1])",
        parallel=parallel,
    )
    def scatter(values, columns, indptr, rows, dy, dx, splits, edges):
        ranges, features, height = edges.size - 1, dx.shape[1], dy.shape[1]
        flat_dy, flat_dx = dy.reshape(-1), dx.reshape(-1)
        for task in prange(dx.shape[0] * ranges):
            t, part = task // ranges, task % ranges
            scatter_tile(
                values, columns, indptr, rows, flat_dy, t * height * tile, height, flat_dx,
                t * features * tile, splits[part], splits[part + 1], edges[part], edges[part + 1],
            )  # fmt: skip

    return scatter


@once
def rows_scatter_kernel(group: int, tile: int, index: str, tail: bool, parallel: bool) -> Any:
    """Return the kernel of dx = W^T dy that adds into dx, on ordinary rows.

    A tile is packed, multiplied and unpacked while it is in the cache; `packed` and `scratch` are
    as for `sparse_core.kernels.forward.rows_forward_kernel`.

    Args:
        group: Rows that share their columns.
        tile: Samples of a tile.
        index: Name of the type of the column indices.
        tail: Whether the last group may have fewer than `group` rows.
        parallel: Whether tiles run on Numba's threads.

    Returns:
        A function of (values, columns, indptr, rows, dy, dx, splits, packed, scratch).
    """
    scatter_tile = tile_scatterer(group, tile, tail)
    pack_tile, unpack_tile = tile_packer(tile), tile_unpacker(tile)

    @kernel(
        f"void(float32[::1], {index}[::1], int64[::1], int32[::1], float32[:, ::1], "
        "float32[:, ::1], int32[:, ::1], float32[:, :, ::1], float32[:, :, ::1])",
        parallel=parallel,
    )
    def rows_scatter(values, columns, indptr, rows, dy, dx, splits, packed, scratch):
        batch, height = dy.shape
        features = dx.shape[1]
        flat_dy, flat_dx = packed.reshape(-1), scratch.reshape(-1)
        for t in prange((batch + tile - 1) // tile):
            valid = min(tile, batch - t * tile)
            dy_base = t % packed.shape[0] * height * tile
            dx_base = t % scratch.shape[0] * features * tile
            pack_tile(dy, t * tile, valid, flat_dy, dy_base, 0, height)
            scatter_tile(
                values, columns, indptr, rows, flat_dy, dy_base, height, flat_dx, dx_base,
                splits[0], splits[1], 0, features,
            )  # fmt: skip
            unpack_tile(flat_dx, dx_base, dx, t * tile, valid, 0, features)

    return rows_scatter


@once
def dots_kernel(
    group: int, tile: int, together: int, index: str, tail: bool, parallel: bool
) -> Any:
    """Return the kernel of dW = dy x^T at stored slots, and of db.

    Args:
        group: Rows that share their columns.
        tile: Samples of a tile.
        together: Tiles that share a horizontal sum.
        index: Name of the type of the column indices.
        tail: Whether the last group may have fewer than `group` rows.
        parallel: Whether tasks run on Numba's threads.

    Returns:
        A function of (columns, indptr, rows, absent, x, dy, dvalues, db, bounds), where `db` is
        (out,), or empty if it is not wanted.
    """
    machine = isa.host()
    lanes, dots, registers = machine.vector(tile), machine.dots(tile), machine.registers
    some = machine.rows_together(group)

    @kernel(
        f"void({index}[::1], int64[::1], int32[::1], int32[::1], float32[:, :, ::1], "
        "float32[:, :, ::1], float32[::1], float32[::1], int64[::1])",
        parallel=parallel,
    )
    def dots_of_slots(columns, indptr, rows, absent, x, dy, dvalues, db, bounds):
        features, height, tiles = x.shape[1], dy.shape[1], x.shape[0]
        x_step, dy_step = features * tile, height * tile
        no_sum = np.float32(0)
        for chunk in prange(bounds.size - 1):
            for t in range(0, tiles, together):
                stop = min(t + together, tiles)
                for i in range(bounds[chunk], bounds[chunk + 1]):
                    start, row = indptr[i], rows[i] * group
                    n = indptr[i + 1] - start
                    here = t * dy_step + row * tile
                    if db.size:
                        for r in range(min(group, height - row)):
                            total = db[row + r] if t else no_sum
                            for u in range(stop - t):
                                of_tile = at(dy, here + u * dy_step + r * tile)
                                total += tile_sum(tile, lanes, of_tile)
                            db[row + r] = total
                    if tail and row + group > height:
                        for r in range(height - row):
                            for u in range(t, stop):
                                tile_dots(
                                    1, group, tile, 1, lanes, dots, registers, at(columns, start),
                                    n, at(dy, u * dy_step + (row + r) * tile), dy_step,
                                    at(x, u * x_step), x_step, at(dvalues, start * group + r),
                                    u == 0,
                                )  # fmt: skip
                        for r in range(height - row, group):
                            for k in range(start, start + n):
                                dvalues[k * group + r] = 0
                    elif stop - t == together:
                        for r in range(0, group, some):
                            tile_dots(
                                some, group, tile, together, lanes, dots, registers,
                                at(columns, start), n, at(dy, here + r * tile), dy_step,
                                at(x, t * x_step), x_step, at(dvalues, start * group + r), t == 0,
                            )  # fmt: skip
                    else:
                        for r in range(0, group, some):
                            tile_dots(
                                some, group, tile, 1, lanes, dots, registers,
                                at(columns, start), n, at(dy, here + r * tile), dy_step,
                                at(x, t * x_step), x_step, at(dvalues, start * group + r), t == 0,
                            )  # fmt: skip

        if db.size:
            for r in absent:
                db[r] = 0
                for t in range(dy.shape[0]):
                    db[r] += tile_sum(tile, lanes, at(dy, (t * height + r) * tile))

    return dots_of_slots


@once
def row_sums_kernel(tile: int, parallel: bool) -> Any:
    """Return the kernel of db = sum of dy over samples.

    Args:
        tile: Samples of a tile.
        parallel: Whether tasks run on Numba's threads.

    Returns:
        A function of (dy, db, chunks).
    """
    lanes = isa.host().vector(tile)

    @kernel("void(float32[:, :, ::1], float32[::1], int64)", parallel=parallel)
    def row_sums(dy, db, chunks):
        height = dy.shape[1]
        for chunk in prange(chunks):
            first, last = height * chunk // chunks, height * (chunk + 1) // chunks
            for r in range(first, last):
                db[r] = 0
            for t in range(dy.shape[0]):
                for r in range(first, last):
                    db[r] += tile_sum(tile, lanes, at(dy, (t * height + r) * tile))

    return row_sums
