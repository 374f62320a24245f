"""Convolutions of tiles of images, compiled: outputs, gradients, and copies from and to images.

Arrays of tiles are (tiles, floats of a tile). Outermost loops are over tiles, or over rows where
all tiles add to the same weights, so results do not depend on the number of threads. Within a tile
come patches of pixels, then blocks of channels, then rows: a patch with what lies around it stays
in the cache while all rows of a block read it.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

from numba import prange

from sparse_core.kernels import isa
from sparse_core.kernels.conv_patches import (
    add_lanes,
    copy_square,
    patch_dots,
    patch_scatter,
    patch_sums,
    run_sum,
)
from sparse_core.kernels.conv_shape import Patch
from sparse_core.kernels.jit import inlined, kernel, once
from sparse_core.kernels.simd import at

_TILES, _FRAME = "float32[:, ::1]", "int64[::1]"


@once
def border_cleaner(tile: int) -> Any:
    """Return a function that writes zeros around the pixels of all channels of one tile.

    It takes (flat, base, size, frame): an array, where the tile begins in it, and its floats.
    """

    @inlined
    def clean_border(flat, base, size, frame):
        lead, row, plane, height, width = frame[0], frame[1], frame[2], frame[3], frame[4]
        flat[base : base + lead] = 0
        for c in range(frame[5]):
            start = base + lead + c * plane
            for y in range(height):
                flat[start + y * row + width * tile : start + (y + 1) * row] = 0
            flat[start + height * row : start + plane] = 0
        flat[base + lead + frame[5] * plane : base + size] = 0

    return clean_border


@once
def sums_kernel(group: int, tile: int, patch: Patch, stride: int, parallel: bool) -> Any:
    """Return the kernel of out = W x + b.

    Args:
        group: Rows that share their weights' places.
        tile: Samples of a tile.
        patch: Pixels of the result that are summed at once.
        stride: Pixels of x from pixel to pixel in a row of the result.
        parallel: Whether tiles run on Numba's threads.

    Returns:
        A function of (values, offsets, splits, rows, absent, bias, x, x_frame, down, out,
        out_frame). `down` is the stride from row to row, `absent` are rows without weights; the
        index is a `sparse_core.kernels.conv_index.ConvIndex`.
    """
    lanes, rows, columns = isa.host().vector(tile), patch.rows, patch.columns
    clean_border = border_cleaner(tile)

    @kernel(
        "void(float32[::1], int32[::1], int32[:, ::1], int32[::1], int32[::1], float32[::1], "
        f"{_TILES}, {_FRAME}, int64, {_TILES}, {_FRAME})",
        parallel=parallel,
    )
    def sums(
        values, offsets, splits, rows_of, absent, bias, x, x_frame, down, out, out_frame
    ):  # fmt: skip
        x_row, row, plane = x_frame[1], out_frame[1], out_frame[2]
        height, width = out_frame[3], out_frame[4]
        flat_x, flat_out = x.reshape(-1), out.reshape(-1)
        for t in prange(x.shape[0]):
            x_first, first = t * x.shape[1] + x_frame[0], t * out.shape[1] + out_frame[0]
            for y in range(0, height, rows):
                for p in range(0, width, columns):
                    source = x_first + down * y * x_row + stride * p * tile
                    target = first + y * row + p * tile
                    for b in range(splits.shape[0] - 1):
                        for j in range(splits.shape[1]):
                            k, n = splits[b, j], splits[b + 1, j] - splits[b, j]
                            if n > 0 or b == 0:
                                patch_sums(
                                    group, tile, lanes, rows, columns, stride,
                                    at(values, k * group), at(offsets, k), n,
                                    at(flat_x, source), down * x_row, at(bias, rows_of[j]),
                                    at(flat_out, target + rows_of[j] * plane), row, plane, b == 0,
                                )  # fmt: skip
            for r in absent:
                flat_out[first + r * plane : first + (r + 1) * plane] = bias[r]
            clean_border(flat_out, t * out.shape[1], out.shape[1], out_frame)

    return sums


@once
def scatter_kernel(group: int, tile: int, patch: Patch, stride: int, parallel: bool) -> Any:
    """Return the kernel of dx = W^T dy that adds into dx; arguments as for `sums_kernel`.

    Returns:
        A function of (values, offsets, splits, rows, dy, dy_frame, dx, dx_frame, down), where the
        index is that of the outputs.
    """
    lanes, rows, columns = isa.host().vector(tile), patch.rows, patch.columns
    clean_border = border_cleaner(tile)

    @kernel(
        "void(float32[::1], int32[::1], int32[:, ::1], int32[::1], "
        f"{_TILES}, {_FRAME}, {_TILES}, {_FRAME}, int64)",
        parallel=parallel,
    )
    def scatter(values, offsets, splits, rows_of, dy, dy_frame, dx, dx_frame, down):
        x_row, row, plane = dx_frame[1], dy_frame[1], dy_frame[2]
        height, width = dy_frame[3], dy_frame[4]
        flat_dy, flat_dx = dy.reshape(-1), dx.reshape(-1)
        for t in prange(dx.shape[0]):
            base = t * dx.shape[1]
            flat_dx[base : base + dx.shape[1]] = 0
            first = t * dy.shape[1] + dy_frame[0]
            for y in range(0, height, rows):
                for p in range(0, width, columns):
                    target = base + dx_frame[0] + down * y * x_row + stride * p * tile
                    source = first + y * row + p * tile
                    for b in range(splits.shape[0] - 1):
                        for j in range(splits.shape[1]):
                            k, n = splits[b, j], splits[b + 1, j] - splits[b, j]
                            if n > 0:
                                patch_scatter(
                                    group, tile, lanes, rows, columns, stride,
                                    at(values, k * group), at(offsets, k), n,
                                    at(flat_dy, source + rows_of[j] * plane), row, plane,
                                    at(flat_dx, target), down * x_row,
                                )  # fmt: skip
            clean_border(flat_dx, base, dx.shape[1], dx_frame)

    return scatter


@once
def dots_kernel(group: int, tile: int, patch: Patch, stride: int, parallel: bool) -> Any:
    """Return the kernel of dW += dy x at stored weights; arguments as for `sums_kernel`.

    Returns:
        A function of (offsets, splits, rows, bounds, x, x_frame, down, dy, dy_frame, band,
        partial, dvalues): rows `bounds[i]` to `bounds[i + 1]` are a task, with `partial[i]` to
        hold a vector for each weight of a row and block. Lanes are added after `band` rows of
        pixels.
    """
    lanes, rows, columns = isa.host().vector(tile), patch.rows, patch.columns

    @kernel(
        "void(int32[::1], int32[:, ::1], int32[::1], int64[::1], "
        f"{_TILES}, {_FRAME}, int64, {_TILES}, {_FRAME}, int64, float32[:, ::1], float32[::1])",
        parallel=parallel,
    )
    def dots(
        offsets, splits, rows_of, bounds, x, x_frame, down, dy, dy_frame, band, partial, dvalues
    ):  # fmt: skip
        x_row, row, plane = x_frame[1], dy_frame[1], dy_frame[2]
        height, width = dy_frame[3], dy_frame[4]
        flat_x, flat_dy, flat_partial = x.reshape(-1), dy.reshape(-1), partial.reshape(-1)
        for task in prange(bounds.size - 1):
            sums = task * partial.shape[1]
            for t in range(x.shape[0]):
                x_first, first = t * x.shape[1] + x_frame[0], t * dy.shape[1] + dy_frame[0]
                for top in range(0, height, band):
                    for b in range(splits.shape[0] - 1):
                        for j in range(bounds[task], bounds[task + 1]):
                            k, n = splits[b, j], splits[b + 1, j] - splits[b, j]
                            here = first + rows_of[j] * plane
                            for y in range(top, min(top + band, height), rows):
                                for p in range(0, width, columns):
                                    patch_dots(
                                        group, tile, lanes, rows, columns, stride,
                                        at(offsets, k), n,
                                        at(flat_x, x_first + down * y * x_row + stride * p * tile),
                                        down * x_row, at(flat_dy, here + y * row + p * tile),
                                        row, plane, at(flat_partial, sums), y == top and p == 0,
                                    )  # fmt: skip
                            add_lanes(
                                lanes, at(flat_partial, sums), n * group, at(dvalues, k * group)
                            )

    return dots


@once
def channel_sums_kernel(tile: int, parallel: bool) -> Any:
    """Return the kernel of db += sums of dy over samples and pixels.

    Args:
        tile: Samples of a tile.
        parallel: Whether channels run on Numba's threads.

    Returns:
        A function of (dy, dy_frame, db), where db is for the first channels, one or more.
    """
    lanes = isa.host().vector(tile)

    @kernel(f"void({_TILES}, {_FRAME}, float32[::1])", parallel=parallel)
    def channel_sums(dy, dy_frame, db):
        row, plane, height, width = dy_frame[1], dy_frame[2], dy_frame[3], dy_frame[4]
        flat = dy.reshape(-1)
        for r in prange(db.size):
            for t in range(dy.shape[0]):
                first = t * dy.shape[1] + dy_frame[0] + r * plane
                for y in range(height):
                    db[r] += run_sum(tile, lanes, at(flat, first + y * row), width)

    return channel_sums


@once
def copy_kernel(inward: bool, tile: int, parallel: bool) -> Any:
    """Return the kernel that copies images to tiles (`inward`), or back.

    Args:
        inward: The direction.
        tile: Samples of a tile.
        parallel: Whether tiles run on Numba's threads.

    Returns:
        A function of (images, first, tiles, frame, outer, inner). Images are (batch, numbers),
        `first` is the first sample of the tiles. The numbers of a sample are `outer.size` runs of
        `inner.size`; number i of run j lies `outer[j] + inner[i]` floats into the tile. Samples
        that a tile has in excess are zeros.
    """
    lanes = isa.host().vector(tile)
    clean_border = border_cleaner(tile)

    @kernel(
        f"void(float32[:, ::1], int64, {_TILES}, {_FRAME}, int32[::1], int32[::1])",
        parallel=parallel,
    )
    def copy(images, first, tiles, frame, outer, inner):
        numbers, size, run = images.shape[1], tiles.shape[1], inner.size
        flat_images, flat_tiles = images.reshape(-1), tiles.reshape(-1)
        for t in prange(tiles.shape[0]):
            base = t * size
            for part in range(0, tile, lanes):
                sample = first + t * tile + part
                valid = min(images.shape[0] - sample, lanes)
                if valid <= 0:
                    if inward:
                        for j in range(outer.size):
                            for i in range(run):
                                place = base + part + outer[j] + inner[i]
                                flat_tiles[place : place + lanes] = 0
                    continue
                for j in range(outer.size):
                    here = base + part + outer[j]
                    source = sample * numbers + j * run
                    if run >= lanes:
                        # The last square begins earlier than it might, where run is no multiple.
                        for i in range(0, run, lanes):
                            i = min(i, run - lanes)
                            copy_square(
                                lanes, inward, at(flat_images, source + i), numbers, valid,
                                at(inner, i), at(flat_tiles, here),
                            )  # fmt: skip
                        continue
                    for i in range(run):
                        for s in range(valid):
                            if inward:
                                flat_tiles[here + inner[i] + s] = flat_images[
                                    source + s * numbers + i
                                ]
                            else:
                                flat_images[source + s * numbers + i] = flat_tiles[
                                    here + inner[i] + s
                                ]
                        if inward:
                            for s in range(valid, lanes):
                                flat_tiles[here + inner[i] + s] = 0
            if inward:
                clean_border(flat_tiles, base, size, frame)

    return copy
