"""Normalisation and ReLU on tiles of images, forward and backward, compiled.

Arrays of tiles are (tiles, floats of a tile), each with a frame of its own
(`sparse_core.kernels.conv_shape.Frame.numbers`). Borders of what is written are zeros. Loops
are over tiles, and each tile has its own sums, so results do not depend on the number of threads.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sparse_core.kernels import isa
from sparse_core.kernels.conv_planes import (
    plane_combine,
    plane_normalise,
    plane_signal,
    plane_sum,
)
from sparse_core.kernels.conv_tiles import border_cleaner
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.simd import at

_TILES, _FRAME, _NUMBERS = "float32[:, ::1]", "int64[::1]", "float32[::1]"


@once
def moments_kernel(tile: int, parallel: bool) -> Any:
    """Return the kernel of the mean of each channel of each tile, and of squares about it.

    Args:
        tile: Samples of a tile.
        parallel: Whether tiles run on Numba's threads.

    Returns:
        A function of (y, frame, samples, moments): `samples` of the batch are in the tiles, and
        `moments` (tiles, channels, 2) takes means and sums of squared differences from them.
    """
    lanes = isa.host().vector(tile)

    @kernel(f"void({_TILES}, {_FRAME}, int64, float32[:, :, ::1])", parallel=parallel)
    def moments_of(y, frame, samples, moments):
        row, plane, height, width = frame[1], frame[2], frame[3], frame[4]
        flat = y.reshape(-1)
        for t in prange(y.shape[0]):
            valid = min(samples - t * tile, tile)
            for c in range(moments.shape[1]):
                here = at(flat, t * y.shape[1] + frame[0] + c * plane)
                # About the first number, so that the moments of constants are exact.
                first = flat[t * y.shape[1] + frame[0] + c * plane]
                total = plane_sum(tile, lanes, 0, here, row, height, width, first, valid)
                mean = first + total / np.float32(valid * height * width)
                moments[t, c, 0] = mean
                moments[t, c, 1] = plane_sum(tile, lanes, 1, here, row, height, width, mean, valid)

    return moments_of


@once
def normalise_kernel(tile: int, relu: bool, added: bool, parallel: bool) -> Any:
    """Return the kernel of out = relu(scale * y + shift + more), for each channel.

    Args:
        tile: Samples of a tile.
        relu: Whether there is a ReLU.
        added: Whether `more` is added.
        parallel: Whether tiles run on Numba's threads.

    Returns:
        A function of (y, y_frame, more, more_frame, out, out_frame, scale, shift); `out` may be one
        of the others.
    """
    lanes, relu_too, more_too = isa.host().vector(tile), int(relu), int(added)
    clean_border = border_cleaner(tile)

    @kernel(
        f"void({_TILES}, {_FRAME}, {_TILES}, {_FRAME}, {_TILES}, {_FRAME}, {_NUMBERS}, {_NUMBERS})",
        parallel=parallel,
    )
    def normalise(y, y_frame, more, more_frame, out, out_frame, scale, shift):
        height, width = y_frame[3], y_frame[4]
        flat_y, flat_more, flat_out = y.reshape(-1), more.reshape(-1), out.reshape(-1)
        for t in prange(y.shape[0]):
            for c in range(scale.size):
                plane_normalise(
                    tile, lanes, relu_too, more_too,
                    at(flat_y, t * y.shape[1] + y_frame[0] + c * y_frame[2]), y_frame[1],
                    at(flat_more, t * more.shape[1] + more_frame[0] + c * more_frame[2]),
                    more_frame[1],
                    at(flat_out, t * out.shape[1] + out_frame[0] + c * out_frame[2]), out_frame[1],
                    height, width, scale[c], shift[c],
                )  # fmt: skip
            clean_border(flat_out, t * out.shape[1], out.shape[1], out_frame)

    return normalise


@once
def signal_kernel(tile: int, relu: bool, added: bool, parallel: bool) -> Any:
    """Return the kernel that passes gradients back through a ReLU, in place, and adds them up.

    Args:
        tile: Samples of a tile.
        relu: Whether there is a ReLU.
        added: Whether `more` was added before it.
        parallel: Whether tiles run on Numba's threads.

    Returns:
        A function of (d, d_frame, y, y_frame, more, more_frame, scale, shift, mean, sums): the
        gradient of what `normalise_kernel` wrote, and what that took. `sums` (tiles, channels, 2)
        takes the sums of d and of d * (y - mean).
    """
    lanes, relu_too, more_too = isa.host().vector(tile), int(relu), int(added)

    @kernel(
        f"void({_TILES}, {_FRAME}, {_TILES}, {_FRAME}, {_TILES}, {_FRAME}, "
        f"{_NUMBERS}, {_NUMBERS}, {_NUMBERS}, float32[:, :, ::1])",
        parallel=parallel,
    )
    def signal(d, d_frame, y, y_frame, more, more_frame, scale, shift, mean, sums):
        height, width = y_frame[3], y_frame[4]
        flat_d, flat_y, flat_more = d.reshape(-1), y.reshape(-1), more.reshape(-1)
        flat_sums = sums.reshape(-1)
        for t in prange(y.shape[0]):
            for c in range(scale.size):
                plane_signal(
                    tile, lanes, relu_too, more_too,
                    at(flat_d, t * d.shape[1] + d_frame[0] + c * d_frame[2]), d_frame[1],
                    at(flat_y, t * y.shape[1] + y_frame[0] + c * y_frame[2]), y_frame[1],
                    at(flat_more, t * more.shape[1] + more_frame[0] + c * more_frame[2]),
                    more_frame[1], height, width, scale[c], shift[c], mean[c],
                    at(flat_sums, (t * sums.shape[1] + c) * 2),
                )  # fmt: skip

    return signal


@once
def combine_kernel(tile: int, parallel: bool) -> Any:
    """Return the kernel of out = scale * d + slope * (y - mean) + shift, for each channel.

    It passes gradients back through a normalisation. Samples that are in excess, and channels of
    the tile beyond those that there are, become zeros.

    Args:
        tile: Samples of a tile.
        parallel: Whether tiles run on Numba's threads.

    Returns:
        A function of (d, d_frame, y, y_frame, out, out_frame, scale, slope, mean, shift, samples),
        `samples` as for `moments_kernel`.
    """
    lanes = isa.host().vector(tile)
    clean_border = border_cleaner(tile)

    @kernel(
        f"void({_TILES}, {_FRAME}, {_TILES}, {_FRAME}, {_TILES}, {_FRAME}, "
        f"{_NUMBERS}, {_NUMBERS}, {_NUMBERS}, {_NUMBERS}, int64)",
        parallel=parallel,
    )
    def combine(d, d_frame, y, y_frame, out, out_frame, scale, slope, mean, shift, samples):
        height, width = y_frame[3], y_frame[4]
        flat_d, flat_y, flat_out = d.reshape(-1), y.reshape(-1), out.reshape(-1)
        for t in prange(y.shape[0]):
            first = t * out.shape[1] + out_frame[0]
            for c in range(scale.size):
                plane_combine(
                    tile, lanes,
                    at(flat_d, t * d.shape[1] + d_frame[0] + c * d_frame[2]), d_frame[1],
                    at(flat_y, t * y.shape[1] + y_frame[0] + c * y_frame[2]), y_frame[1],
                    at(flat_out, first + c * out_frame[2]), out_frame[1],
                    height, width, scale[c], slope[c], mean[c], shift[c],
                    min(samples - t * tile, tile),
                )  # fmt: skip
            flat_out[first + scale.size * out_frame[2] : first + out_frame[5] * out_frame[2]] = 0
            clean_border(flat_out, t * out.shape[1], out.shape[1], out_frame)

    return combine
