"""Products and gradients of a condensed matrix, band after band: the kernels of wide layers.

They compute what those of `sparse_core.kernels.forward` and `sparse_core.kernels.backward` do, in
the order of `sparse_core.kernels.bands`. A row's sum begins with its bias and goes over its slots
in ascending columns, whatever the width of a band and the parts that the work is cut into, so
neither of them changes a result.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sparse_core.kernels import isa
from sparse_core.kernels.backward import absent_sums, apart_adder, tile_summer
from sparse_core.kernels.band_tiles import entry_dots, entry_forward, prefetch
from sparse_core.kernels.bands import AHEAD, FIRST, LAST
from sparse_core.kernels.forward import tile_filler
from sparse_core.kernels.jit import inlined, kernel, once
from sparse_core.kernels.pack import tile_packer, tile_unpacker
from sparse_core.kernels.simd import at
from sparse_core.kernels.tiles import RELU, tile_sum

_TOGETHER = 4  # tiles whose gradients of a band are added while these are in the cache
_BANDS = "uint16[::1], int32[::1], int32[::1], int64[:, ::1]"  # offsets, starts, order, runs


@once
def part_multiplier(tile: int, relu: bool) -> Any:
    """Return a function that computes a part of y = act(W x + b) on one tile.

    It takes (values, offsets, starts, order, runs, x, x_base, bias, out, out_base, begin, end):
    flat arrays and where the tile begins in them, and the runs of the part.
    """
    machine = isa.host()
    lanes, sub, ahead = machine.vector(tile), machine.register_tile(1, tile), AHEAD
    first, last, act = FIRST, LAST, RELU if relu else 0

    @inlined
    def multiply_part(
        values, offsets, starts, order, runs, x, x_base, bias, out, out_base, begin, end
    ):
        for j in range(begin, end):
            n, slot, flags = runs[j, 1], runs[j, 4], runs[j, 5]
            here = x_base + runs[j, 0] * tile
            for e in range(runs[j, 2], runs[j, 3]):
                row, later = order[e], order[e + ahead]
                prefetch(at(values, starts[e + ahead]), n)
                for part in range(0, tile, sub):
                    entry_forward(
                        1, tile, sub, lanes, act, at(values, starts[e]), at(offsets, slot), n,
                        at(x, here + part), at(bias, row), at(out, out_base + row * tile + part),
                        at(out, out_base + later * tile + part),
                        flags & first != 0, flags & last != 0,
                    )  # fmt: skip
                slot += n

    return multiply_part


@once
def forward_kernel(tile: int, relu: bool, parallel: bool) -> Any:
    """Return the kernel of y = act(W x + b) in the blocked layout, for rows of their own columns.

    Args:
        tile: Samples of a tile.
        relu: Whether max(., 0) is applied to the result.
        parallel: Whether tasks run on Numba's threads.

    Returns:
        A function of (values, offsets, starts, order, runs, parts, absent, x, bias, out, batch);
        see `sparse_core.kernels.bands.Bands` and `sparse_core.kernels.checked.forward`.
    """
    multiply_part, fill_tile = part_multiplier(tile, relu), tile_filler(tile, relu)

    @kernel(
        f"void(float32[::1], {_BANDS}, int64[::1], int32[::1], float32[:, :, ::1], float32[::1], "
        "float32[:, :, ::1], int64)",
        parallel=parallel,
    )
    def forward(values, offsets, starts, order, runs, parts, absent, x, bias, out, batch):
        chunks, features, height = parts.size - 1, x.shape[1], out.shape[1]
        flat_x, flat_out = x.reshape(-1), out.reshape(-1)
        for task in prange(x.shape[0] * chunks):
            t, chunk = task // chunks, task % chunks
            base, valid = t * height * tile, min(tile, batch - t * tile)
            multiply_part(
                values, offsets, starts, order, runs, flat_x, t * features * tile, bias, flat_out,
                base, parts[chunk], parts[chunk + 1],
            )  # fmt: skip
            if chunk == 0:
                fill_tile(absent, bias, flat_out, base, valid)
        for t in range(batch // tile, x.shape[0]):
            for r in range(height):
                for s in range(batch - t * tile, tile):
                    flat_out[(t * height + r) * tile + s] = 0

    return forward


@once
def rows_forward_kernel(tile: int, relu: bool, parallel: bool) -> Any:
    """Return the kernel of y = act(W x + b) on ordinary rows, for rows of their own columns.

    A tile is packed, multiplied and unpacked while it is in the cache; `packed` and `scratch` are
    as for `sparse_core.kernels.forward.rows_forward_kernel`. There is one part.

    Args:
        tile: Samples of a tile.
        relu: Whether max(., 0) is applied to the result.
        parallel: Whether tiles run on Numba's threads.

    Returns:
        A function of (values, offsets, starts, order, runs, absent, x, bias, out, packed, scratch,
        copy).
    """
    multiply_part, fill_tile = part_multiplier(tile, relu), tile_filler(tile, relu)
    pack_tile, unpack_tile = tile_packer(tile), tile_unpacker(tile)

    @kernel(
        f"void(float32[::1], {_BANDS}, int32[::1], float32[:, ::1], float32[::1], "
        "float32[:, ::1], float32[:, :, ::1], float32[:, :, ::1], int64)",
        parallel=parallel,
    )
    def rows_forward(
        values, offsets, starts, order, runs, absent, x, bias, out, packed, scratch, copy
    ):
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
                multiply_part(
                    mine, offsets, starts, order, runs, flat_x, x_base, bias, flat_y, y_base,
                    0, runs.shape[0],
                )  # fmt: skip
                fill_tile(absent, bias, flat_y, y_base, tile)
                unpack_tile(flat_y, y_base, out, t * tile, valid, 0, height)

    return rows_forward


@once
def part_dots(tile: int) -> Any:
    """Return a function that adds dW = dy x^T, and db, of some tiles for a part of the work.

    A band goes over all of these tiles before the next, so that its gradients stay in the cache.
    The function takes (offsets, starts, order, runs, begin, end, x, dy, dvalues, db, step, first,
    last, fresh): the runs of the part, and the tiles. The gradients of each tile begin `step`
    numbers after the last one's: none to add them up, those of the first tile to what is there
    unless `fresh`. `db` is empty if it is not wanted.
    """
    machine = isa.host()
    lanes, dots, registers = machine.vector(tile), machine.dots(tile), machine.registers
    ahead, begins = AHEAD, FIRST

    @inlined
    def dots_of_part(
        offsets, starts, order, runs, begin, end, x, dy, dvalues, db, step, first, last, fresh
    ):
        features, height, no_sum = x.shape[1], dy.shape[1], np.float32(0)
        while begin < end:
            stop = begin + 1
            while stop < end and runs[stop, 0] == runs[begin, 0]:
                stop += 1
            for t in range(first, last):
                x_at = (t * features + runs[begin, 0]) * tile
                dy_base, out = t * height * tile, (t - first) * step
                anew = step > 0 or (fresh and t == first)
                for j in range(begin, stop):
                    n, slot = runs[j, 1], runs[j, 4]
                    sums_bias = db.size > 0 and runs[j, 5] & begins != 0
                    for e in range(runs[j, 2], runs[j, 3]):
                        row = order[e]
                        here = dy_base + row * tile
                        if sums_bias:
                            so_far = no_sum if anew else db[row]
                            db[row] = so_far + tile_sum(tile, lanes, at(dy, here))
                        entry_dots(
                            1, tile, lanes, dots, registers, at(offsets, slot), n,
                            at(x, x_at), at(dy, here), at(dvalues, out + starts[e]),
                            at(dy, dy_base + order[e + ahead] * tile), anew,
                        )  # fmt: skip
                        slot += n
            begin = stop

    return dots_of_part


@once
def dots_kernel(tile: int, parallel: bool) -> Any:
    """Return the kernel of dW = dy x^T at stored slots, and of db, for rows of their own columns.

    Args:
        tile: Samples of a tile.
        parallel: Whether parts run on Numba's threads.

    Returns:
        A function of (offsets, starts, order, runs, parts, absent, x, dy, dvalues, db), where
        `db` is (out,), or empty if it is not wanted.
    """
    dots_of_part, sum_absent, together = part_dots(tile), absent_sums(tile), _TOGETHER

    @kernel(
        f"void({_BANDS}, int64[::1], int32[::1], float32[:, :, ::1], float32[:, :, ::1], "
        "float32[::1], float32[::1])",
        parallel=parallel,
    )
    def dots_of_slots(offsets, starts, order, runs, parts, absent, x, dy, dvalues, db):
        for chunk in prange(parts.size - 1):
            for t in range(0, x.shape[0], together):
                dots_of_part(
                    offsets, starts, order, runs, parts[chunk], parts[chunk + 1], x, dy,
                    dvalues, db, 0, t, min(t + together, x.shape[0]), t == 0,
                )  # fmt: skip
        sum_absent(absent, dy, db)

    return dots_of_slots


@once
def split_dots_kernel(tile: int) -> Any:
    """Return `dots_kernel` with tiles, not rows, shared out among Numba's threads.

    See `sparse_core.kernels.backward.split_dots_kernel`.

    Returns:
        A function of (offsets, starts, order, runs, x, dy, dvalues, db, apart, sums, workers).
    """
    dots_of_part, add_apart, together = part_dots(tile), apart_adder(), _TOGETHER
    sum_tile = tile_summer(tile)

    @kernel(
        f"void({_BANDS}, float32[:, :, ::1], float32[:, :, ::1], float32[::1], float32[::1], "
        "float32[:, ::1], float32[:, ::1], int64)",
        parallel=True,
    )
    def split_dots(offsets, starts, order, runs, x, dy, dvalues, db, apart, sums, workers):
        tiles, size = x.shape[0], dvalues.size
        own, no_bias, flat = tiles // workers, db[:0], apart.reshape(-1)
        for worker in prange(workers):
            stop = tiles * (worker + 1) // workers
            for t in range(tiles * worker // workers, stop, together):
                last = min(t + together, stop)
                if worker == 0:
                    dots_of_part(
                        offsets, starts, order, runs, 0, runs.shape[0], x, dy, dvalues, no_bias,
                        0, t, last, t == 0,
                    )  # fmt: skip
                else:
                    dots_of_part(
                        offsets, starts, order, runs, 0, runs.shape[0], x, dy,
                        flat[(t - own) * size :], no_bias, size, t, last, True,
                    )  # fmt: skip
                for u in range(t, last):
                    sum_tile(dy, sums, u)
        for worker in prange(workers):
            add_apart(apart, sums, dvalues, db, worker, workers)

    return split_dots
