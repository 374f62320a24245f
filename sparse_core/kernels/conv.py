"""A condensed convolution of images of one size: outputs and gradients.

Images are taken as (batch, numbers): channels first or last. A tile of samples is copied in,
multiplied, and copied back while it is in the cache; several threads take several tiles at once.
Results do not depend on the number of threads. Masked and dense convolutions give the same numbers
to rounding.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import conv_index, plan
from sparse_core.kernels.buffers import empty
from sparse_core.kernels.conv_index import ConvIndex
from sparse_core.kernels.conv_shape import CONV_GROUPS, Layout, Window
from sparse_core.kernels.conv_sides import Images, Operation, Side
from sparse_core.kernels.conv_tiles import (
    channel_sums_kernel,
    dots_kernel,
    scatter_kernel,
    sums_kernel,
)
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.take import taker
from sparse_core.kernels.threads import team

Array = NDArray[np.float32]

_MOST_FLOATS = 1 << 31  # of a tile, whose places are int32


class Convolution(Operation):
    """The products of a pattern with images of one size.

    Args:
        pattern: The weights, (filters, channels / groups * kernel height * kernel width).
        window: The convolution.
        height: Of the images.
        width: Of the images.

    Attributes:
        x: Inputs and their gradients.
        y: Outputs and theirs.

    Raises:
        ValueError: If there is no kernel for them: see `why_not`.
    """

    def __init__(self, pattern: Pattern, window: Window, height: int, width: int) -> None:
        reason = why_not(pattern.group, window, height, width)
        if reason is not None:
            raise ValueError(reason)
        self.pattern = pattern
        self.layout = layout = Layout(window, height, width, pattern.group)
        self.tile = layout.tile
        planes = -(-window.filters // pattern.group) * pattern.group
        self.x = Side(layout.x, window.channels, window.channels, layout.tile)
        self.y = Side(layout.y, window.filters, planes, layout.tile)
        self._zeros: Array = np.zeros(max(planes, window.channels), np.float32)
        self._none: NDArray[np.int32] = np.empty(0, np.int32)

    @property
    def nbytes(self) -> int:
        """Bytes of the indices."""
        made = [v for v in vars(self).values() if isinstance(v, ConvIndex)]
        return sum({id(index): index.nbytes for index in made}.values())

    def forward(self, values: Array, x: Images, bias: Array | None, threads: int = 1) -> Images:
        """Convolve images.

        Args:
            values: (at least pattern.size,) weights.
            x: (batch, channels * height * width).
            bias: (filters,), or None.
            threads: Threads to use.

        Returns:
            (batch, filters * output height * output width), channels where they are in `x`.
        """
        batch, (height, width) = len(x.numbers), self.layout.out
        out = Images(empty(batch, self.y.channels * height * width), x.last)
        step, threads = self.step(batch, threads)
        x_tiles, y_tiles = self.x.empty(step), self.y.empty(step)
        full = self.whole(bias)
        for first, tiles in self.parts(batch, step):
            self.x.enter(x, first, x_tiles[:tiles], threads)
            self.outputs(values, x_tiles[:tiles], full, y_tiles[:tiles], threads)
            self.y.leave(y_tiles[:tiles], out, first, threads)
        return out

    def backward(
        self, values: Array, x: Images, dy: Images, *, of_x: bool = True, of_values: bool = True,
        of_bias: bool = True, threads: int = 1,
    ) -> tuple[Images | None, Array | None, Array | None]:  # fmt: skip
        """Return gradients of the input, the values and the bias.

        Args:
            values: (at least pattern.size,) weights.
            x: What `forward` was given.
            dy: The gradient of its result.
            of_x: Whether the gradient of the input is wanted.
            of_values: Whether that of the values is.
            of_bias: Whether that of the bias is.
            threads: Threads to use.

        Returns:
            Each of them, or None; that of the values is (values.size,).
        """
        batch = len(dy.numbers)
        step, threads = self.step(batch, threads)
        dx = Images(empty(*x.numbers.shape), x.last) if of_x else None
        dvalues = np.zeros(values.size, np.float32) if of_values else None
        db = np.zeros(self.y.channels, np.float32) if of_bias else None
        x_tiles, y_tiles = self.x.empty(step), self.y.empty(step)
        if of_x:
            values = self.transposed(values, threads)
        for first, tiles in self.parts(batch, step):
            of_y = y_tiles[:tiles]
            self.y.enter(dy, first, of_y, threads)
            if dvalues is not None:
                self.x.enter(x, first, x_tiles[:tiles], threads)
                self.dots(x_tiles[:tiles], of_y, dvalues, threads)
            if db is not None:
                self.add_channels(of_y, db, threads)
            if dx is not None:
                self.inputs(values, None, of_y, x_tiles[:tiles], threads)
                self.x.leave(x_tiles[:tiles], dx, first, threads)
        return dx, dvalues, db

    def whole(self, bias: Array | None) -> Array:
        """Return a bias for all channels of a tile of outputs, zeros where there is none."""
        if bias is None:
            return self._zeros
        full = np.zeros_like(self._zeros)
        full[: bias.size] = bias
        return full

    @property
    def _per_channel(self) -> float:
        """Weights of a row in each channel that it can read."""
        pattern, window = self.pattern, self.layout.window
        return pattern.slots * window.groups / (max(1, pattern.groups) * window.channels)

    @cached_property
    def _forward_index(self) -> ConvIndex:
        return self._of_filters(self.layout.forward)

    @cached_property
    def _dots_index(self) -> ConvIndex:
        return self._of_filters(self.layout.dots)

    def _of_filters(self, patch: Any) -> ConvIndex:
        layout = self.layout
        block = layout.channels_of_block(patch, layout.window.stride, self._per_channel)
        return conv_index.of_filters(self.pattern, layout, block)

    @cached_property
    def _backward_index(self) -> ConvIndex:
        layout, pattern = self.layout, self.pattern
        if not layout.gathers:
            return self._forward_index
        window = layout.window
        per_filter = pattern.slots * window.groups / (window.channels * window.filters)
        block = layout.channels_of_block(layout.backward, (1, 1), per_filter)
        return conv_index.of_channels(pattern, layout, block)

    def transposed(self, values: Array, threads: int) -> Array:
        """Return the values as `inputs` takes them."""
        if not self.layout.gathers:
            return values
        return taker(self._backward_index.source, threads)(values)

    def outputs(self, values: Array, x: Array, bias: Array, out: Array, threads: int) -> None:
        """Write W x + b to the tiles `out`; the bias is that of `whole`."""
        layout, index = self.layout, self._forward_index
        down, across = layout.window.stride
        run = sums_kernel(layout.group, layout.tile, layout.forward, across, threads > 1)
        with team(threads):
            run(
                values, index.offsets, index.splits, index.rows, self.pattern.absent, bias,
                x, self.x.frame, down, out, self.y.frame,
            )  # fmt: skip

    def inputs(self, values: Array, x: Array | None, dy: Array, dx: Array, threads: int) -> None:
        """Write W^T dy to the tiles `dx`; the values are those of `transposed`."""
        layout, index = self.layout, self._backward_index
        down, across = layout.window.stride
        with team(threads):
            if layout.gathers:
                run = sums_kernel(1, layout.tile, layout.backward, 1, threads > 1)
                run(
                    values, index.offsets, index.splits, index.rows, self._none, self._zeros,
                    dy, self.y.frame, 1, dx, self.x.frame,
                )  # fmt: skip
                return
            run = scatter_kernel(layout.group, layout.tile, layout.backward, across, threads > 1)
            run(
                values, index.offsets, index.splits, index.rows, dy, self.y.frame,
                dx, self.x.frame, down,
            )  # fmt: skip

    def add_channels(self, dy: Array, db: Array, threads: int) -> None:
        """Add to db the sums of the channels of the tiles `dy`."""
        with team(threads):
            channel_sums_kernel(self.layout.tile, threads > 1)(dy, self.y.frame, db)

    def dots(self, x: Array, dy: Array, dvalues: Array, threads: int) -> None:
        """Add to dvalues the product of dy and x at the stored weights."""
        layout, index = self.layout, self._dots_index
        down, across = layout.window.stride
        bounds = plan.row_bounds(self.pattern, threads)
        longest = int(np.diff(index.splits, axis=0).max(initial=1))
        partial = empty(threads, longest * layout.group * layout.tile)
        run = dots_kernel(layout.group, layout.tile, layout.dots, across, threads > 1)
        with team(threads):
            run(
                index.offsets, index.splits, index.rows, bounds, x, self.x.frame, down,
                dy, self.y.frame, layout.band, partial, dvalues,
            )  # fmt: skip


def why_not(group: int, window: Window, height: int, width: int) -> str | None:
    """Return why there is no kernel for a convolution, or None if there is one.

    Args:
        group: Consecutive filters that share their weights' places.
        window: The convolution.
        height: Of the images.
        width: Of the images.
    """
    if group not in CONV_GROUPS:
        return f"its groups have {group} filters, kernels are for {CONV_GROUPS}"
    if window.groups > 1 and window.filters // window.groups % group:
        return f"groups of {group} filters do not divide {window.filters // window.groups} filters"
    out = window.output(height, width)
    if min(out) < 1:
        return f"images of {height} x {width} are smaller than the kernel"
    layout = Layout(window, height, width, group)
    sizes = (layout.x.size(window.channels, layout.tile),
             layout.y.size(window.filters + group, layout.tile))  # fmt: skip
    if max(sizes) >= _MOST_FLOATS:
        return f"images of {height} x {width} are too large"
    return None


def convolution(pattern: Pattern, window: Window, height: int, width: int) -> Convolution:
    """Return the products of a pattern with images of one size, made once."""
    key = ("convolution", window, height, width)
    return plan.keep(pattern, key, lambda: Convolution(pattern, window, height, width))
