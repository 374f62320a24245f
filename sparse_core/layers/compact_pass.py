"""The forward and the backward pass of a condensed layer on a `CompactInput`.

They compute with the weights in the batch's columns, which are sought in one pass over the index:
the cost follows the batch and the number of weights, not the number of inputs, and the gradient of
all other weights is zero. The numbers are those of the dense input, up to the order of summation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_core.checks import InputError
from sparse_core.kernels import unchecked
from sparse_core.kernels.arguments import tile_size
from sparse_core.kernels.buffers import empty
from sparse_core.kernels.narrow import narrowed
from sparse_core.layers.compact import CompactInput
from sparse_core.layers.state import Condensed


def apply(layer: Condensed, input: CompactInput) -> Tensor:
    """Map `(n, in)` to `(n, out)`.

    Raises:
        InputError: If it has another number of features than the layer.
    """
    outputs, inputs = layer.dense_shape
    if input.width != inputs:
        raise InputError(f"input must have {inputs} features, got {input.width}")
    values = layer.values
    plain = values.is_cpu and values.dtype == torch.float32
    shared = layer.shared is not None or layer._buffers["weight_given"] is not None
    if not plain or shared or not input.columns.numel() or not len(input.numbers):
        return layer(input.dense())  # type: ignore[no-any-return]
    own = layer._parameters["bias"]
    bias = values.new_zeros(outputs) if own is None else own
    return _Compact.apply(values, bias, layer, input)  # type: ignore[no-any-return, no-untyped-call]


class _Compact(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, bias: Tensor, layer: Condensed, input: CompactInput
    ) -> Tensor:
        few, slots = narrowed(layer.pattern, input.columns.numpy())
        group = layer.group
        taken = values.detach().numpy()[: layer.pattern.size].reshape(-1, group)[slots].reshape(-1)
        rows = input.numbers.contiguous().numpy()
        out = empty(len(rows), layer.dense_shape[0])
        shape = bias.detach().numpy(), False, out, True, torch.get_num_threads()
        packed = unchecked.rows_forward(few, taken, rows, *shape)
        ctx.save_for_backward(values, bias)
        ctx.layer, ctx.input, ctx.few, ctx.slots, ctx.packed = layer, input, few, slots, packed
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        values, _ = ctx.saved_tensors
        layer, few, group = ctx.layer, ctx.few, ctx.layer.group
        outputs = layer.dense_shape[0]
        tap = layer.weight_tap
        if tap.armed:
            tap.receive_product(ctx.input, gradient, values)
        threads, batch = torch.get_num_threads(), len(gradient)
        tile = tile_size(batch)
        dy = empty(-(-batch // tile), outputs, tile)
        unchecked.pack(gradient.contiguous().numpy(), dy, threads)
        of_few, of_bias = empty(few.size), empty(outputs)
        unchecked.grad_values(few, tile, batch, threads)(ctx.packed, dy, of_few, of_bias)
        of_values = np.zeros(values.numel(), np.float32)
        of_values[: layer.pattern.size].reshape(-1, group)[ctx.slots] = of_few.reshape(-1, group)
        live = layer._buffers["weight_live"]
        if live is not None:
            of_bias[~live.numpy()] = 0
        return torch.from_numpy(of_values), torch.from_numpy(of_bias), None, None
