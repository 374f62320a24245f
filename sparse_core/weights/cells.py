"""The growth gradient at some cells of a matrix, at the cost of these cells.

Of a condensed layer it is the product of inputs and output gradients there (a sampled product of
matrices, as the kernels compute it for stored weights); of other layers it is read off the dense
gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.kernels import unchecked
from sparse_core.kernels.arguments import tile_size
from sparse_core.kernels.buffers import empty
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.narrow import narrowed
from sparse_core.layers.compact import CompactInput

Signal = tuple[Tensor | CompactInput, Tensor, float]
"""A layer's input `(..., in)`, the gradient of its output `(..., out)`, and what it counts."""


def product_at(pattern: Pattern, rows: slice, signals: Sequence[Signal]) -> NDArray[np.float32]:
    """Return sum_b dy_b x_b^T at the weights of a pattern.

    Args:
        pattern: Of the rows, whole groups.
        rows: Which rows of the layer these are.
        signals: What is multiplied; the products are added up.

    Returns:
        (size,) float32, in the layout of values; zero where a last group lacks rows.
    """
    total = np.zeros(pattern.size, np.float32)
    for x, dy, share in signals:
        part = _of_one(pattern, rows, x, dy.reshape(-1, dy.shape[-1]))
        total += part if share == 1 else np.float32(share) * part
    return total


def _of_one(
    pattern: Pattern, rows: slice, x: Tensor | CompactInput, dy: Tensor
) -> NDArray[np.float32]:
    group, threads, batch = pattern.group, torch.get_num_threads(), len(dy)
    out = np.zeros(pattern.size, np.float32)
    if not pattern.slots or not batch:
        return out
    if isinstance(x, CompactInput):
        few, slots = narrowed(pattern, x.columns.numpy())
        if few.slots:
            inner = _of_one(few, rows, x.numbers, dy)
            out.reshape(-1, group)[slots] = inner.reshape(-1, group)
        return out
    if x.dtype != torch.float32:
        return _gathered(pattern, rows, x, dy)
    tile = tile_size(batch)
    flat = x.reshape(-1, x.shape[-1]).contiguous().numpy()
    packed = empty(-(-batch // tile), flat.shape[1], tile)
    unchecked.pack(flat, packed, threads)
    of_rows = dy[:, rows].contiguous().numpy()
    signal = empty(-(-batch // tile), of_rows.shape[1], tile)
    unchecked.pack(of_rows, signal, threads)
    unchecked.grad_values(pattern, tile, batch, threads)(packed, signal, out, empty(0))
    return out


def _gathered(pattern: Pattern, rows: slice, x: Tensor, dy: Tensor) -> NDArray[np.float32]:
    """Do the same with operations of torch, for what kernels do not take."""
    out = np.zeros(pattern.size, np.float32)
    i, j, places = pattern.coordinates()
    of_rows, columns = dy[:, rows].T.contiguous(), x.reshape(-1, x.shape[-1]).T.contiguous()
    step = max(1, (1 << 22) // max(1, len(dy)))
    for first in range(0, i.size, step):
        part = slice(first, first + step)
        found = (of_rows[i[part]] * columns[j[part]]).sum(1)
        out[places[part]] = found.float().numpy()
    return out
