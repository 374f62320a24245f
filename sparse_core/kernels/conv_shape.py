"""What a convolution reads and writes, and how tiles of images lie in memory.

Activations are blocked by batch: a tile holds `tile` samples, and its pixels are those samples side
by side. Rows of pixels are `pitch` long and channels are planes of `rows` rows, both longer than
the image where filters reach beyond it: the zeros after a row are also those before the next one,
the zeros below a channel also those above the next one. So a weight (channel, ky, kx) is one
*offset*: at any output pixel it reads the pixel that far from the first one, borders included, and
a shifted row of pixels is contiguous. As rows and pitch are odd, the same pixel of all channels
spreads over all sets of the caches.

    first  ...pixels... 0 | ...pixels... 0 | 0 0 0 0 0 | next channel
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import isa

CONV_GROUPS = (1, 2, 4, 8)
"""Supported numbers of filters that share their columns."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """The numbers of a two-dimensional convolution.

    Attributes:
        channels: Of the input.
        filters: Channels of the output.
        kernel: Height and width of a filter.
        stride: Pixels from output to output, down and right.
        padding: Zeros above, below, left and right of an image.
        dilation: Pixels from weight to weight, down and right.
        groups: Parts that channels and filters are divided into; filters read their own part.
    """

    channels: int
    filters: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def reach(self) -> Pair:
        """Pixels from a filter's first weight to its last, down and right."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return (kh - 1) * dh, (kw - 1) * dw

    @property
    def fan_in(self) -> int:
        """Weights of a dense filter."""
        return self.channels // self.groups * self.kernel[0] * self.kernel[1]

    def output(self, height: int, width: int) -> Pair:
        """Return height and width of what comes of an image; not positive if it is too small."""
        top, bottom, left, right = self.padding
        (down, across), (sh, sw) = self.reach, self.stride
        return (
            (height + top + bottom - down - 1) // sh + 1,
            (width + left + right - across - 1) // sw + 1,
        )


@dataclass(frozen=True)
class Patch:
    """Output pixels that a kernel holds in registers."""

    rows: int
    columns: int

    def over(self, height: int, width: int) -> Pair:
        """Return the rows and columns that patches cover of an image: it, or somewhat more."""
        return -(-height // self.rows) * self.rows, -(-width // self.columns) * self.columns

    def cost(self, height: int, width: int) -> float:
        """Return what pixels cost in patches: those beyond the image, and starts of patches."""
        rows, columns = self.over(height, width)
        own = self.rows * self.columns
        return rows * columns / (height * width) * (1 + _START / own)


_START = 2.0  # pixels that the start of a patch costs

_PATCHES = tuple(
    Patch(*shape)
    for shape in (
        (2, 8), (2, 4), (3, 3), (1, 7), (1, 6), (1, 5), (1, 4), (2, 2), (1, 3), (1, 2), (1, 1),
    )
)  # fmt: skip


def patch_for(height: int, width: int, most: int) -> Patch:
    """Return the patch of `most` pixels or fewer that covers an image at least cost."""
    fitting = [patch for patch in _PATCHES if patch.rows * patch.columns <= max(1, most)]
    return min(fitting, key=lambda patch: patch.cost(height, width))


@dataclass(frozen=True)
class Frame:
    """How the images of one size lie in a tile, in pixels.

    Attributes:
        height: Of the image.
        width: Of the image.
        rows: Rows of a channel, the zeros below it included.
        pitch: Pixels of a row, the zeros after it included.
        lead: Zeros before the first channel.
        slack: Zeros after the last one.
    """

    height: int
    width: int
    rows: int
    pitch: int
    lead: int
    slack: int

    @classmethod
    def around(
        cls,
        height: int,
        width: int,
        before: Pair,
        after: Pair,
        covered: Pair,
        furthest: Pair,
    ) -> Frame:
        """Return the frame of images that are read and written beyond their borders.

        Args:
            height: Of the image.
            width: Of the image.
            before: Rows and columns of zeros that are read before its first pixel.
            after: The same after its last one.
            covered: Rows and columns that patches write.
            furthest: Row and column of the furthest pixel that patches read, zeros or not.
        """
        pitch = max(width + max(before[1], after[1]), covered[1])
        rows = max(height + max(before[0], after[0]), covered[0])
        pitch, rows = pitch | 1, rows | 1
        last = furthest[0] * pitch + furthest[1] + 1
        slack = max(after[0] * pitch + after[1], last - rows * pitch, 0)
        return cls(height, width, rows, pitch, before[0] * pitch + before[1], slack)

    @property
    def plane(self) -> int:
        """Pixels of a channel."""
        return self.rows * self.pitch

    def size(self, channels: int, tile: int) -> int:
        """Return the floats of a tile."""
        return (self.lead + channels * self.plane + self.slack) * tile

    def numbers(self, channels: int, tile: int) -> NDArray[np.int64]:
        """Return the frame as kernels take it.

        Lead, row and plane, all three in floats, height, width, and how many channels there are.
        """
        row = self.pitch * tile
        numbers = self.lead * tile, row, self.rows * row, self.height, self.width, channels
        return np.array(numbers, np.int64)

    def pixels(self, tile: int) -> NDArray[np.int32]:
        """Return (height * width,) int32, where each pixel of a channel lies in it, in floats."""
        rows = np.arange(self.height)[:, None] * self.pitch + np.arange(self.width)
        return (rows * tile).astype(np.int32).ravel()

    def channels(self, count: int, tile: int) -> NDArray[np.int32]:
        """Return (count,) int32, where each channel begins, in floats."""
        return ((self.lead + np.arange(count) * self.plane) * tile).astype(np.int32)


def tile_of_images() -> int:
    """Return the samples of a tile: one vector register a pixel, eight at least."""
    return max(8, isa.host().lanes)


@dataclass(frozen=True)
class Layout:
    """How a convolution of images of one size is computed.

    Attributes:
        window: The convolution.
        height: Of the images.
        width: Of the images.
        group: Consecutive filters that share their weights' places.
    """

    window: Window
    height: int
    width: int
    group: int

    @property
    def tile(self) -> int:
        """Samples of a tile."""
        return tile_of_images()

    @cached_property
    def out(self) -> Pair:
        """Height and width of the output."""
        return self.window.output(self.height, self.width)

    @property
    def gathers(self) -> bool:
        """Whether gradients of inputs are sums over transposed weights, as outputs are.

        Otherwise each filter adds to what it read, which groups of filters do together.
        """
        return self.group == 1 and self.window.stride == (1, 1)

    def _pixels(self, group: int, registers: int) -> int:
        vectors = self.tile // isa.host().lanes
        return registers // (group * vectors)

    @cached_property
    def forward(self) -> Patch:
        """The patch of outputs, whose sums fill five eighths of the registers."""
        return patch_for(*self.out, min(9, self._pixels(self.group, isa.host().registers * 5 // 8)))

    @cached_property
    def backward(self) -> Patch:
        """The patch of gradients of inputs where these are gathered, else of outputs."""
        if not self.gathers:
            return self.forward
        return patch_for(
            self.height, self.width, min(9, self._pixels(1, isa.host().registers * 5 // 8))
        )

    @cached_property
    def dots(self) -> Patch:
        """The patch of gradients of outputs that gradients of weights hold."""
        return patch_for(*self.out, self._pixels(self.group, isa.host().registers * 5 // 8))

    @cached_property
    def band(self) -> int:
        """Rows after which the lanes of gradients of weights are added, whole patches."""
        rows = self.dots.rows
        return max(rows, _BAND // self.out[1] // rows * rows)

    @cached_property
    def x(self) -> Frame:
        """The frame of inputs and their gradients."""
        top, _, left, _ = self.window.padding
        (oh, ow), (sh, sw), (down, across) = self.out, self.window.stride, self.window.reach

        def last(rows: int, columns: int) -> Pair:
            return (rows - 1) * sh + down - top, (columns - 1) * sw + across - left

        bottom, right = last(oh, ow)
        covered = [patch.over(oh, ow) for patch in (self.forward, self.dots)]
        furthest = last(max(c[0] for c in covered), max(c[1] for c in covered))
        written = (self.height, self.width)
        if self.gathers:
            written = self.backward.over(self.height, self.width)
        return Frame.around(
            self.height,
            self.width,
            (top, left),
            (max(0, bottom - self.height + 1), max(0, right - self.width + 1)),
            written,
            furthest,
        )

    @cached_property
    def y(self) -> Frame:
        """The frame of outputs and their gradients."""
        (oh, ow), (down, across) = self.out, self.window.reach
        covered = [patch.over(oh, ow) for patch in (self.forward, self.dots)]
        written = max(c[0] for c in covered), max(c[1] for c in covered)
        before = after = (0, 0)
        furthest = written[0] - 1, written[1] - 1
        if self.gathers:
            top, _, left, _ = self.window.padding
            rows, columns = self.backward.over(self.height, self.width)
            before = max(0, down - top), max(0, across - left)
            after = max(0, self.height + top - oh), max(0, self.width + left - ow)
            furthest = max(furthest[0], rows - 1 + top), max(furthest[1], columns - 1 + left)
        return Frame.around(oh, ow, before, after, written, furthest)

    def channels_of_block(self, patch: Patch, stride: Pair, per_channel: float) -> int:
        """Return over how many channels a kernel walks before the next group of rows.

        A patch with all that weights reach around it fills the first-level cache, but rows have a
        dozen weights or so in a block, which pays for their start.

        Args:
            patch: The kernel's patch.
            stride: Pixels of the operand from pixel to pixel of the patch.
            per_channel: Weights of a row in each channel of the operand, on the average.
        """
        down, across = self.window.reach
        height = (patch.rows - 1) * stride[0] + 1 + down
        width = (patch.columns - 1) * stride[1] + 1 + across
        cached = _BLOCK_BYTES // (height * width * self.tile * 4) // 8 * 8
        return max(8, cached, int(_ROW_OF_BLOCK / max(per_channel, 1e-9)))


_BAND = 128  # pixels, so that sums of lanes are rare and what a band reads stays in the cache
_BLOCK_BYTES = 40 << 10
_ROW_OF_BLOCK = 12
