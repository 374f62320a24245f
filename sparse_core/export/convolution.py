"""Condensed two-dimensional convolution, for inference.

A convolution is a product with a matrix that repeats the filters once for each output position,
shifted (a block Toeplitz matrix). Sparse filters make that matrix sparse enough to store it, so the
kernels of linear layers multiply with it as they are: nothing is unfolded, samples lie side by
side. Images are taken and given channels last. Output rows are computed in strips, which share
one matrix, so that it stays small. Any stride, padding, padding mode, dilation and groups.

Where a gradient is asked for, and where torch has to see inside
(`sparse_core.layers.torch_path`), it is an ordinary convolution with the dense filters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_core.checks import InputError
from sparse_core.kernels.format import Pattern
from sparse_core.layers import torch_path
from sparse_core.layers.choice import condensed_conv_pays
from sparse_core.layers.companions import key
from sparse_core.layers.condensed import CondensedLinear, store_condensed
from sparse_core.layers.dense import Sparse, become_dense
from sparse_core.layers.kinds import become, own_class
from sparse_core.layers.links import check_weights
from sparse_core.layers.masked import masked_weight
from sparse_core.layers.passes import is_for_kernels, run
from sparse_core.layers.rows import Rows

STRIP_WEIGHTS = 1 << 20
"""Weights of the repeated filters that are held, if one row of the output needs no more."""


class CondensedConv2d(Sparse, nn.Conv2d):
    """`nn.Conv2d` with condensed weights, for inference; its output is channels last in memory.

    Attributes:
        product: The filters, as rows of a sparse matrix over input channels and kernel.
    """

    product: CondensedLinear
    _repeated: tuple[tuple[Any, ...], CondensedLinear] | None

    @torch_path.opaque
    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(batch, in, height, width)` or `(in, height, width)`.

        Raises:
            ValueError: If the shape is another.
        """
        if torch_path.looked_into():
            return self._densely(input)
        if input.dim() not in (3, 4) or input.shape[-3] != self.in_channels:
            raise InputError(
                f"input must be (batch, {self.in_channels}, height, width) or without batch, got "
                f"{tuple(input.shape)}"
            )
        trains = input.requires_grad or any(p.requires_grad for p in self.product.parameters())
        dense = trains and torch.is_grad_enabled()
        if dense or self.product.on_device or not is_for_kernels(input):
            return self._densely(input)
        if input.dim() == 3:
            return self.forward(input[None])[0]
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        padded = F.pad(input, self._reversed_padding_repeated_twice, mode=mode)
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        height, width = ((padded.shape[2 + i] - reach[i]) // self.stride[i] + 1 for i in range(2))
        if height < 1 or width < 1:
            raise InputError(f"input of shape {tuple(input.shape)} is smaller than the kernel")
        image = padded.permute(0, 2, 3, 1)
        strip = min(height, max(1, STRIP_WEIGHTS // max(1, width * self.product.pattern.size)))
        layer = self._repeat(strip, width, image.shape[2])
        rows = (strip - 1) * self.stride[0] + reach[0]
        strips = []
        for first in range(0, height, strip):
            top = min(first, height - strip)  # the last strip covers some rows a second time
            part = image[:, top * self.stride[0] :][:, :rows].flatten(1)
            product = run([layer], part).reshape(-1, strip, width, self.out_channels)
            strips.append(product[:, first - top :])
        return (torch.cat(strips, 1) if len(strips) > 1 else strips[0]).permute(0, 3, 1, 2)

    def _densely(self, input: Tensor) -> Tensor:
        """Convolve with the dense filters."""
        filters = self._filters(torch_path.weight_of(self.product))
        output: Tensor = self._conv_forward(input, filters, self.product.bias)
        return output

    def _filters(self, weight: Tensor) -> Tensor:
        """Bring the matrix of filters over all input channels into the shape of a convolution's."""
        inputs = self.in_channels // self.groups
        blocks = weight.reshape(self.groups, -1, self.groups, inputs, *self.kernel_size)
        return torch.cat([blocks[i, :, i] for i in range(self.groups)])

    def _repeat(self, height: int, width: int, image_width: int) -> CondensedLinear:
        """Return the matrix of a strip: rows (position, filter), columns (row, column, channel)."""
        pattern, values, bias = self.product.pattern, self.product.values, self.product.bias
        made_from = (height, width, image_width, pattern, values._version, values.data_ptr())
        if self._repeated is not None and self._repeated[0] == made_from:
            return self._repeated[1]
        check_weights(values, self)
        channel, tap = np.divmod(pattern.columns.astype(np.int64), np.prod(self.kernel_size))
        down, right = np.divmod(tap, self.kernel_size[1])
        base = (down * self.dilation[0] * image_width + right * self.dilation[1]) * self.in_channels
        base += channel
        owner = np.repeat(np.arange(pattern.groups), np.diff(pattern.indptr))
        order = np.lexsort((base, owner))
        shift = np.arange(height)[:, None] * self.stride[0] * image_width
        shift = (shift + np.arange(width) * self.stride[1]).reshape(-1, 1) * self.in_channels
        positions = height * width
        inputs = (height - 1) * self.stride[0] + self.dilation[0] * (self.kernel_size[0] - 1) + 1
        repeated = Pattern.from_lengths(
            (shift + base[order]).reshape(-1),
            np.tile(pattern.lengths, positions),
            inputs * image_width * self.in_channels,
            positions * self.out_channels,
            pattern.group,
        )
        own = values.detach().numpy()[: pattern.size].reshape(-1, pattern.group)[order]
        layer = nn.Linear(1, 1, bias=False, device="meta")
        store_condensed(layer, repeated, np.tile(own.reshape(-1), positions))
        assert isinstance(layer, CondensedLinear)
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().repeat(positions))
        layer.requires_grad_(False)
        self._repeated = (made_from, layer)
        return layer

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        shape = f"kernel_size={self.kernel_size}, stride={self.stride}"
        return f"{self.in_channels}, {self.out_channels}, {shape}"

    def _take_dense_form(self, latent: bool) -> None:
        weight, bias = self._filters(self.product.dense_weight()), self.product.bias
        del self.product, self._repeated
        self.__class__ = own_class(self)  # type: ignore[assignment]
        self.weight = nn.Parameter(weight)
        self.register_parameter("bias", bias)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_repeated": None}


def become_condensed_conv(layer: nn.Conv2d) -> None:
    """Turn a masked convolution on the CPU into its condensed form, in place."""
    rows = _filters(layer)
    group = _group(rows)
    become_dense(layer)
    product: nn.Linear = nn.Linear(1, 1, bias=False, device="meta")
    product._parameters["bias"] = layer._parameters["bias"]
    store_condensed(product, *rows.condensed(group))
    assert isinstance(product, CondensedLinear)
    product.requires_grad_(False)
    del layer._parameters["weight"], layer._parameters["bias"]
    become(layer, CondensedConv2d)
    assert isinstance(layer, CondensedConv2d)
    layer.product = product
    layer._repeated = None


def conv_pays(layer: nn.Conv2d, batch: int) -> bool:
    """Whether a masked convolution is not slower in condensed form, by the rule of `choice`."""
    rows = _filters(layer)
    inputs = layer.in_channels * layer.stride[0] * layer.stride[1]
    taps = layer.weight[0].numel()
    density = rows.values.size / layer.weight.numel()
    return condensed_conv_pays(rows.out_features, taps, inputs, density, _group(rows), batch)


def _filters(layer: nn.Conv2d) -> Rows:
    """Return the filters as rows over all input channels, those of other groups included."""
    mask = (layer.get_buffer(key("weight", "mask")) != 0).flatten(1).numpy()
    rows = Rows.of_matrix(masked_weight(layer).detach().flatten(1).numpy(), mask)
    block = rows.owners() // (layer.out_channels // layer.groups)
    columns = rows.columns + block * rows.in_features
    return Rows(rows.in_features * layer.groups, rows.indptr, columns, rows.values)


def _group(rows: Rows) -> int:
    """Return how many filters share their columns; groups must not reach over a position."""
    group = rows.group()
    return group if rows.out_features % group == 0 else 1
