"""What stands between convolutions of a chain beside them: pooling, and nothing at all."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import prange

from sparse_core.kernels import isa
from sparse_core.kernels.conv_pool_planes import plane_pool, plane_unpool
from sparse_core.kernels.conv_shape import Frame, Pair, tile_of_images
from sparse_core.kernels.conv_sides import Array, Operation, Side
from sparse_core.kernels.conv_tiles import border_cleaner
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.simd import at
from sparse_core.kernels.threads import team

_TILES, _FRAME = "float32[:, ::1]", "int64[::1]"


@dataclass(frozen=True)
class Pooling:
    """The numbers of a pooling.

    Attributes:
        largest: Whether it takes the largest number of a window, else the mean.
        kernel: Height and width of a window.
        stride: Pixels from window to window, down and right.
        padding: Pixels by which windows reach beyond the image on each side, which do not count;
            less than a window, and none for means.
    """

    largest: bool
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)

    def output(self, height: int, width: int) -> Pair:
        """Return height and width of what comes of an image; not positive if it is too small."""
        sizes = zip((height, width), self.kernel, self.stride, self.padding, strict=True)
        rows, columns = ((size + 2 * p - kernel) // stride + 1 for size, kernel, stride, p in sizes)
        return rows, columns


class Pool(Operation):
    """Pooling of images of one size.

    Args:
        pooling: Which.
        channels: Of the images.
        height: Of the images.
        width: Of the images.
    """

    def __init__(self, pooling: Pooling, channels: int, height: int, width: int) -> None:
        self.tile, self.reads = tile_of_images(), pooling.largest
        self.x = _bare(channels, (height, width), self.tile)
        self.y = _bare(channels, pooling.output(height, width), self.tile)
        self._largest = pooling.largest
        self._share = np.float32(1 / (pooling.kernel[0] * pooling.kernel[1]))
        image, out = self.x.image, self.y.image
        rows = int(self.x.frame[1]), int(self.y.frame[1])
        window = (*pooling.kernel, *pooling.stride, *pooling.padding)
        self._sizes = np.array([*rows, *image, *out, *window], np.int64)

    def outputs(self, values: Array, x: Array, bias: Array, out: Array, threads: int) -> None:
        """Write the tiles `out`."""
        run = pool_kernel(self._largest, self.tile, threads > 1)
        with team(threads):
            run(x, self.x.frame, out, self.y.frame, self._share, self._sizes)

    def inputs(self, values: Array, x: Array | None, dy: Array, dx: Array, threads: int) -> None:
        """Write the gradient of the input to the tiles `dx`."""
        run = unpool_kernel(self._largest, self.tile, threads > 1)
        with team(threads):
            seen = dx if x is None else x
            run(seen, self.x.frame, dy, self.y.frame, dx, self._share, self._sizes)


class Through(Operation):
    """Leaves images of one size as they are: what comes behind it is normalised by itself.

    Args:
        channels: Of the images.
        height: Of the images.
        width: Of the images.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.tile = tile_of_images()
        self.x = self.y = _bare(channels, (height, width), self.tile)

    def outputs(self, values: Array, x: Array, bias: Array, out: Array, threads: int) -> None:
        """Do nothing: both are the same tiles."""

    def inputs(self, values: Array, x: Array | None, dy: Array, dx: Array, threads: int) -> None:
        """Do nothing: both are the same tiles."""


def _bare(channels: int, image: Pair, tile: int) -> Side:
    """Return tiles of images that nothing reads beyond their borders."""
    last = image[0] - 1, image[1] - 1
    frame = Frame.around(*image, (0, 0), (0, 0), image, last)
    return Side(frame, channels, channels, tile)


@once
def pool_kernel(largest: bool, tile: int, parallel: bool) -> Any:
    """Return the kernel of a pooling.

    Args:
        largest: Whether it takes the largest number of a window, else the mean.
        tile: Samples of a tile.
        parallel: Whether tiles run on Numba's threads.

    Returns:
        A function of (x, x_frame, y, y_frame, share, sizes): `share` is one by the pixels of a
        window, `sizes` are those of `sparse_core.kernels.conv_pool_planes`.
    """
    lanes, by_size = isa.host().vector(tile), int(largest)
    clean_border = border_cleaner(tile)

    @kernel(f"void({_TILES}, {_FRAME}, {_TILES}, {_FRAME}, float32, int64[::1])", parallel=parallel)
    def pool(x, x_frame, y, y_frame, share, sizes):
        flat_x, flat_y = x.reshape(-1), y.reshape(-1)
        for t in prange(x.shape[0]):
            of_x, of_y = t * x.shape[1] + x_frame[0], t * y.shape[1] + y_frame[0]
            for c in range(x_frame[5]):
                plane_pool(
                    tile, lanes, by_size, at(flat_x, of_x + c * x_frame[2]),
                    at(flat_y, of_y + c * y_frame[2]), share, at(sizes, 0),
                )  # fmt: skip
            clean_border(flat_y, t * y.shape[1], y.shape[1], y_frame)

    return pool


@once
def unpool_kernel(largest: bool, tile: int, parallel: bool) -> Any:
    """Return the kernel of the gradient of a pooling's input; arguments as for `pool_kernel`.

    Returns:
        A function of (x, x_frame, dy, dy_frame, dx, share, sizes); dx lies as x does.
    """
    lanes, by_size = isa.host().vector(tile), int(largest)

    @kernel(
        f"void({_TILES}, {_FRAME}, {_TILES}, {_FRAME}, {_TILES}, float32, int64[::1])",
        parallel=parallel,
    )
    def unpool(x, x_frame, dy, dy_frame, dx, share, sizes):
        flat_x, flat_dy, flat_dx = x.reshape(-1), dy.reshape(-1), dx.reshape(-1)
        for t in prange(x.shape[0]):
            base = t * x.shape[1]
            flat_dx[base : base + dx.shape[1]] = 0
            of_dy = t * dy.shape[1] + dy_frame[0]
            for c in range(x_frame[5]):
                first = base + x_frame[0] + c * x_frame[2]
                plane_unpool(
                    tile, lanes, by_size, at(flat_x, first), at(flat_dy, of_dy + c * dy_frame[2]),
                    at(flat_dx, first), share, at(sizes, 0),
                )  # fmt: skip

    return unpool
