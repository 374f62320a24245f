"""Images, how they lie in tiles, and what an operation on such tiles offers to a chain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.buffers import empty
from sparse_core.kernels.conv_shape import Frame, Pair
from sparse_core.kernels.conv_tiles import copy_kernel
from sparse_core.kernels.threads import available, team

Array = NDArray[np.float32]

_TILES_OF_THREAD = 2  # tiles of a thread that are in memory at once


@dataclass(frozen=True)
class Images:
    """A batch of images.

    Attributes:
        numbers: (batch, channels * height * width) float32, C-contiguous.
        last: Whether channels are last in each image, else first.
    """

    numbers: Array
    last: bool = False


class Side:
    """The images that are read, or those that are written, and their tiles.

    Attributes:
        channels: Of the images.
        size: Floats of a tile.
        frame: How images lie in it, as kernels take it.
    """

    def __init__(self, frame: Frame, channels: int, planes: int, tile: int) -> None:
        self.channels, self.tile = channels, tile
        self.size = frame.size(planes, tile)
        self.frame = frame.numbers(planes, tile)
        self._channels, self._pixels = frame.channels(channels, tile), frame.pixels(tile)
        self._spare = planes - channels

    @property
    def image(self) -> Pair:
        """Height and width of the images."""
        return int(self.frame[3]), int(self.frame[4])

    def _runs(self, last: bool) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return (self._pixels, self._channels) if last else (self._channels, self._pixels)

    def empty(self, tiles: int) -> Array:
        """Return room for some tiles."""
        return empty(tiles, self.size)

    def enter(self, images: Images, first: int, tiles: Array, threads: int) -> None:
        """Copy images to tiles, from sample `first` on."""
        if self._spare:
            begin = self.frame[0] + self.channels * self.frame[2]
            tiles[:, begin : begin + self._spare * self.frame[2]] = 0
        run = copy_kernel(True, self.tile, threads > 1)
        with team(threads):
            run(images.numbers, first, tiles, self.frame, *self._runs(images.last))

    def leave(self, tiles: Array, images: Images, first: int, threads: int) -> None:
        """Copy tiles to images, from sample `first` on."""
        run = copy_kernel(False, self.tile, threads > 1)
        with team(threads):
            run(images.numbers, first, tiles, self.frame, *self._runs(images.last))


class Operation(ABC):
    """Maps tiles of images to tiles of images.

    Attributes:
        x: Inputs and their gradients.
        y: Outputs and theirs; the same side where an operation leaves images as they are.
        tile: Samples of a tile.
        reads: Whether the gradient of the input depends on the input.
    """

    x: Side
    y: Side
    tile: int
    reads = False

    @abstractmethod
    def outputs(self, values: Array, x: Array, bias: Array, out: Array, threads: int) -> None:
        """Write the tiles `out`; the bias is that of `whole`."""

    @abstractmethod
    def inputs(self, values: Array, x: Array | None, dy: Array, dx: Array, threads: int) -> None:
        """Write the gradient of the input to the tiles `dx`; `x` is for operations that read it."""

    def transposed(self, values: Array, threads: int) -> Array:
        """Return the values as `inputs` takes them."""
        return values

    def whole(self, bias: Array | None) -> Array:
        """Return a bias for all channels of a tile of outputs, zeros where there is none."""
        return np.zeros(self.y.channels, np.float32)

    def step(self, batch: int, threads: int) -> tuple[int, int]:
        """Return how many tiles are computed together, and by how many threads."""
        tiles = -(-batch // self.tile)
        threads = available(threads)
        if tiles == 1 or threads == 1:
            return 1, 1
        return min(tiles, _TILES_OF_THREAD * threads), threads

    def parts(self, batch: int, step: int) -> list[tuple[int, int]]:
        """Return the first sample of each run of tiles, and how many there are in it."""
        tiles = -(-batch // self.tile)
        return [(t * self.tile, min(step, tiles - t)) for t in range(0, tiles, step)]
