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
from sparse_core.kernels.simd import add_floats, at
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
    as for `sparse_core.kernels.forward.rows_forward_kernel`, `splits` and `edges` as for
    `scatter_kernel`.

    Args:
        group: Rows that share their columns.
        tile: Samples of a tile.
        index: Name of the type of the column indices.
        tail: Whether the last group may have fewer than `group` rows.
        parallel: Whether tiles run on Numba's threads.

    Returns:
        A function of (values, columns, indptr, rows, dy, dx, splits, edges, packed, scratch).
    """
    scatter_tile = tile_scatterer(group, tile, tail)
    pack_tile, unpack_tile = tile_packer(tile), tile_unpacker(tile)

    @kernel(
        f"void(float32[::1], {index}[::1], int64[::1], int32[::1], float32[:, ::1], "
        "float32[:, ::1], int32[:, ::1], int64[::1], float32[:, :, ::1], float32[:, :, ::1])",
        parallel=parallel,
    )
    def rows_scatter(values, columns, indptr, rows, dy, dx, splits, edges, packed, scratch):
        batch, height = dy.shape
        features, workers = dx.shape[1], scratch.shape[0]
        tiles = (batch + tile - 1) // tile
        flat_dy, flat_dx = packed.reshape(-1), scratch.reshape(-1)
        for worker in prange(workers):
            dx_base = worker * features * tile
            for t in range(tiles * worker // workers, tiles * (worker + 1) // workers):
                valid = min(tile, batch - t * tile)
                dy_base = (
                    (np.int64(t) if packed.shape[0] == tiles else np.int64(worker)) * height * tile
                )
                pack_tile(dy, t * tile, valid, flat_dy, dy_base, 0, height)
                for part in range(edges.size - 1):
                    scatter_tile(
                        values, columns, indptr, rows, flat_dy, dy_base, height, flat_dx, dx_base,
                        splits[part], splits[part + 1], edges[part], edges[part + 1],
                    )  # fmt: skip
                unpack_tile(flat_dx, dx_base, dx, t * tile, valid, 0, features)

    return rows_scatter


@once
def unit_dots(group: int, tile: int, together: int, tail: bool) -> Any:
    """Return a function that adds dW = dy x^T, and db, of the tiles that share a horizontal sum.

    It takes (columns, indptr, rows, x, dy, dvalues, db, t, first, last, fresh): the first of these
    tiles, the groups, and whether results begin with them; `db` is empty if it is not wanted.

    Args:
        group: Rows that share their columns.
        tile: Samples of a tile.
        together: Tiles that share a horizontal sum.
        tail: Whether the last group may have fewer than `group` rows.
    """
    machine = isa.host()
    lanes, dots, registers = machine.vector(tile), machine.dots(tile), machine.registers
    some = machine.rows_together(group)

    @inlined
    def dots_of_unit(columns, indptr, rows, x, dy, dvalues, db, t, first, last, fresh):
        height, tiles = dy.shape[1], x.shape[0]
        x_step, dy_step = x.shape[1] * tile, height * tile
        stop, no_sum = min(t + together, tiles), np.float32(0)
        for i in range(first, last):
            start, row = indptr[i], rows[i] * group
            n = indptr[i + 1] - start
            here = t * dy_step + row * tile
            if db.size:
                for r in range(min(group, height - row)):
                    total = no_sum if fresh else db[row + r]
                    for u in range(stop - t):
                        total += tile_sum(tile, lanes, at(dy, here + u * dy_step + r * tile))
                    db[row + r] = total
            if tail and row + group > height:
                for r in range(height - row):
                    for u in range(t, stop):
                        tile_dots(
                            1, group, tile, 1, lanes, dots, registers, at(columns, start), n,
                            at(dy, u * dy_step + (row + r) * tile), dy_step, at(x, u * x_step),
                            x_step, at(dvalues, start * group + r), fresh and u == t,
                        )  # fmt: skip
                for r in range(height - row, group):
                    for k in range(start, start + n):
                        dvalues[k * group + r] = 0
            elif stop - t == together:
                for r in range(0, group, some):
                    tile_dots(
                        some, group, tile, together, lanes, dots, registers, at(columns, start), n,
                        at(dy, here + r * tile), dy_step, at(x, t * x_step), x_step,
                        at(dvalues, start * group + r), fresh,
                    )  # fmt: skip
            else:
                for r in range(0, group, some):
                    tile_dots(
                        some, group, tile, 1, lanes, dots, registers, at(columns, start), n,
                        at(dy, here + r * tile), dy_step, at(x, t * x_step), x_step,
                        at(dvalues, start * group + r), fresh,
                    )  # fmt: skip

    return dots_of_unit


@once
def absent_sums(tile: int) -> Any:
    """Return a function of (absent, dy, db) that computes db of rows without weights."""
    lanes = isa.host().vector(tile)

    @inlined
    def sum_absent(absent, dy, db):
        if db.size:
            for r in absent:
                db[r] = 0
                for t in range(dy.shape[0]):
                    db[r] += tile_sum(tile, lanes, at(dy, (t * dy.shape[1] + r) * tile))

    return sum_absent


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
    dots_of_unit, sum_absent = unit_dots(group, tile, together, tail), absent_sums(tile)

    @kernel(
        f"void({index}[::1], int64[::1], int32[::1], int32[::1], float32[:, :, ::1], "
        "float32[:, :, ::1], float32[::1], float32[::1], int64[::1])",
        parallel=parallel,
    )
    def dots_of_slots(columns, indptr, rows, absent, x, dy, dvalues, db, bounds):
        for chunk in prange(bounds.size - 1):
            for t in range(0, x.shape[0], together):
                dots_of_unit(
                    columns, indptr, rows, x, dy, dvalues, db, t,
                    bounds[chunk], bounds[chunk + 1], t == 0,
                )  # fmt: skip
        sum_absent(absent, dy, db)

    return dots_of_slots


@once
def apart_adder() -> Any:
    """Return a function that adds sums that were kept apart to a worker's share of the results.

    It takes (apart, sums, dvalues, db, worker, workers), as `split_dots_kernel`.
    """
    lanes = isa.host().lanes

    @inlined
    def add_apart(apart, sums, dvalues, db, worker, workers):
        size, flat = dvalues.size, apart.reshape(-1)
        first = size * worker // workers
        n = size * (worker + 1) // workers - first
        for k in range(apart.shape[0]):
            add_floats(lanes, at(dvalues, first), at(flat, k * size + first), n)
        for r in range(db.size * worker // workers, db.size * (worker + 1) // workers):
            db[r] = 0
            for t in range(sums.shape[0]):
                db[r] += sums[t, r]

    return add_apart


@once
def tile_summer(tile: int) -> Any:
    """Return a function of (dy, sums (tiles, out or 0), t) that sums the rows of a tile of dy."""
    lanes = isa.host().vector(tile)

    @inlined
    def sum_tile(dy, sums, t):
        for r in range(sums.shape[1]):
            sums[t, r] = tile_sum(tile, lanes, at(dy, (t * dy.shape[1] + r) * tile))

    return sum_tile


@once
def split_dots_kernel(group: int, tile: int, together: int, index: str, tail: bool) -> Any:
    """Return `dots_kernel` with tiles, not rows, shared out among Numba's threads.

    Each thread reads only what it has packed: what another core has written costs it more than the
    arithmetic. The first thread adds up its tiles in `dvalues`; the sums of all others are kept
    apart and added afterwards in the order of the tiles, so results do not depend on the number of
    threads.

    Returns:
        A function of (columns, indptr, rows, x, dy, dvalues, db, apart, sums, workers), where
        `apart` (sums of the others, dvalues.size) and `sums` (tiles, db.size) are overwritten.
    """
    dots_of_unit, add_apart = unit_dots(group, tile, together, tail), apart_adder()
    sum_tile = tile_summer(tile)

    @kernel(
        f"void({index}[::1], int64[::1], int32[::1], float32[:, :, ::1], float32[:, :, ::1], "
        "float32[::1], float32[::1], float32[:, ::1], float32[:, ::1], int64)",
        parallel=True,
    )
    def split_dots(columns, indptr, rows, x, dy, dvalues, db, apart, sums, workers):
        units = x.shape[0] // together
        own, no_bias = units // workers, db[:0]
        for worker in prange(workers):
            for unit in range(units * worker // workers, units * (worker + 1) // workers):
                if worker == 0:
                    dots_of_unit(
                        columns, indptr, rows, x, dy, dvalues, no_bias, unit * together,
                        0, rows.size, unit == 0,
                    )  # fmt: skip
                else:
                    dots_of_unit(
                        columns, indptr, rows, x, dy, apart[unit - own], no_bias, unit * together,
                        0, rows.size, True,
                    )  # fmt: skip
                for t in range(unit * together, (unit + 1) * together):
                    sum_tile(dy, sums, t)
        for worker in prange(workers):
            add_apart(apart, sums, dvalues, db, worker, workers)

    return split_dots


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
