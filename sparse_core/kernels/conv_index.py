"""Where the weights of a convolution read, as kernels take it; derived once from a pattern.

The matrix of a convolution has a row for each filter and a column for each (channel, ky, kx).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.conv_shape import Layout
from sparse_core.kernels.format import Pattern


@dataclass(frozen=True)
class ConvIndex:
    """The weights of a product, row after row.

    Attributes:
        offsets: (slots,) int32. Where each weight reads, in floats from where the first pixel of a
            patch lies in the first channel.
        splits: (blocks + 1, rows) int32. Where the weights of each row enter each block of
            channels.
        rows: (rows,) int32. The first channel of what is written, for each row.
        source: (slots,) where weights lie in the values; empty if they are the values.
    """

    offsets: NDArray[np.int32]
    splits: NDArray[np.int32]
    rows: NDArray[np.int32]
    source: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes of the index."""
        return sum(a.nbytes for a in (self.offsets, self.splits, self.rows, self.source))


def of_filters(pattern: Pattern, layout: Layout, block: int) -> ConvIndex:
    """Return the index of products that give outputs, and of those that give to inputs.

    Args:
        pattern: The weights.
        layout: Of images of one size.
        block: Input channels of a block.
    """
    window, frame, tile = layout.window, layout.x, layout.tile
    inputs = window.channels // window.groups
    owner = np.repeat(np.arange(pattern.groups), np.diff(pattern.indptr))
    channel, down, right = _places(pattern.columns.astype(np.int64), layout)
    part = _part(pattern.rows.astype(np.int64) * pattern.group, layout)
    shift = (down - window.padding[0]) * frame.pitch + right - window.padding[2]
    offsets = ((channel + part[owner] * inputs) * frame.plane + shift) * tile
    edges = np.append(np.arange(0, inputs, block), inputs)
    splits = np.searchsorted(
        owner * inputs + channel, np.arange(pattern.groups) * inputs + edges[:, None]
    )
    return ConvIndex(
        offsets.astype(np.int32),
        np.ascontiguousarray(splits, np.int32),
        (pattern.rows * pattern.group).astype(np.int32),
        np.empty(0, np.int64),
    )


def of_channels(pattern: Pattern, layout: Layout, block: int) -> ConvIndex:
    """Return the index of the transposed product: gradients of inputs from those of outputs.

    Args:
        pattern: The weights.
        layout: Of images of one size, of stride 1.
        block: Filters of a block.
    """
    window, frame, tile = layout.window, layout.y, layout.tile
    filters = window.filters // window.groups
    rows, columns, places = pattern.coordinates()
    channel, down, right = _places(columns, layout)
    part = _part(rows, layout)
    channel = channel + part * (window.channels // window.groups)
    keys = channel * filters + rows - part * filters
    order = np.argsort(keys, kind="stable")
    shift = (window.padding[0] - down) * frame.pitch + window.padding[2] - right
    offsets = (rows * frame.plane + shift) * tile
    edges = np.append(np.arange(0, filters, block), filters)
    firsts = np.arange(window.channels) * filters
    splits = np.searchsorted(keys[order], firsts + edges[:, None])
    return ConvIndex(
        offsets[order].astype(np.int32),
        np.ascontiguousarray(splits, np.int32),
        np.arange(window.channels, dtype=np.int32),
        places[order],
    )


def _places(
    columns: NDArray[np.int64], layout: Layout
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return channel, and pixels down and right from a filter's first weight, of columns."""
    (kh, kw), (dh, dw) = layout.window.kernel, layout.window.dilation
    channel, tap = np.divmod(columns, kh * kw)
    down, right = np.divmod(tap, kw)
    return channel, down * dh, right * dw


def _part(filters: NDArray[np.int64], layout: Layout) -> NDArray[np.int64]:
    """Return in which of the convolution's groups filters are."""
    window = layout.window
    return filters // (window.filters // window.groups)
