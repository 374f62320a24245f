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
        A function of (values, offsets, starts, order, runs, absent, x, bias, out, packed, scratch).
    """
    multiply_part, fill_tile = part_multiplier(tile, relu), tile_filler(tile, relu)
    pack_tile, unpack_tile = tile_packer(tile), tile_unpacker(tile)

    @kernel(
        f"void(float32[::1], {_BANDS}, int32[::1], float32[:, ::1], float32[::1], "
        "float32[:, ::1], float32[:, :, ::1], float32[:, :, ::1])",
        parallel=parallel,
    )
    def rows_forward(values, offsets, starts, order, runs, absent, x, bias, out, packed, scratch):
        batch, features = x.shape
        height = out.shape[1]
        flat_x, flat_y = packed.reshape(-1), scratch.reshape(-1)
        for t in prange((batch + tile - 1) // tile):
            valid = min(tile, batch - t * tile)
            x_base = t % packed.shape[0] * features * tile
            y_base = t % scratch.shape[0] * height * tile
            pack_tile(x, t * tile, valid, flat_x, x_base, 0, features)
            multiply_part(
                values, offsets, starts, order, runs, flat_x, x_base, bias, flat_y, y_base,
                0, runs.shape[0],
            )  # fmt: skip
            fill_tile(absent, bias, flat_y, y_base, tile)
            unpack_tile(flat_y, y_base, out, t * tile, valid, 0, height)

    return rows_forward


@once
def dots_kernel(tile: int, parallel: bool) -> Any:
    """Return the kernel of dW = dy x^T at stored slots, and of db, for rows of their own columns.

    A band goes over some tiles before the next, so that its gradients stay in the cache.

    Args:
        tile: Samples of a tile.
        parallel: Whether parts run on Numba's threads.

    Returns:
        A function of (offsets, starts, order, runs, parts, absent, x, dy, dvalues, db), where
        `db` is (out,), or empty if it is not wanted.
    """
    machine = isa.host()
    lanes, dots, registers = machine.vector(tile), machine.dots(tile), machine.registers
    ahead, first, together = AHEAD, FIRST, _TOGETHER

    @kernel(
        f"void({_BANDS}, int64[::1], int32[::1], float32[:, :, ::1], float32[:, :, ::1], "
        "float32[::1], float32[::1])",
        parallel=parallel,
    )
    def dots_of_slots(offsets, starts, order, runs, parts, absent, x, dy, dvalues, db):
        features, height = x.shape[1], dy.shape[1]
        no_sum = np.float32(0)
        for chunk in prange(parts.size - 1):
            for first_tile in range(0, x.shape[0], together):
                begin = parts[chunk]
                while begin < parts[chunk + 1]:
                    end = begin + 1
                    while end < parts[chunk + 1] and runs[end, 0] == runs[begin, 0]:
                        end += 1
                    for t in range(first_tile, min(first_tile + together, x.shape[0])):
                        x_at = (t * features + runs[begin, 0]) * tile
                        dy_base = t * height * tile
                        for j in range(begin, end):
                            n, slot = runs[j, 1], runs[j, 4]
                            sums_bias = db.size > 0 and runs[j, 5] & first != 0
                            for e in range(runs[j, 2], runs[j, 3]):
                                row = order[e]
                                here = dy_base + row * tile
                                if sums_bias:
                                    so_far = db[row] if t else no_sum
                                    db[row] = so_far + tile_sum(tile, lanes, at(dy, here))
                                entry_dots(
                                    1, tile, lanes, dots, registers, at(offsets, slot), n,
                                    at(x, x_at), at(dy, here), at(dvalues, starts[e]),
                                    at(dy, dy_base + order[e + ahead] * tile), t == 0,
                                )  # fmt: skip
                                slot += n
                    begin = end
        if db.size:
            for r in absent:
                db[r] = 0
                for t in range(dy.shape[0]):
                    db[r] += tile_sum(tile, lanes, at(dy, (t * height + r) * tile))

    return dots_of_slots
