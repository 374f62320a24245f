"""The masked convolutions: a row of the weight matrix is a filter, `(out, in/groups * kernel)`."""

from __future__ import annotations

from torch import Tensor, nn

from sparse_core.layers.masked import Masked, gated_bias, masked_weight


class MaskedConv1d(Masked, nn.Conv1d):
    """`nn.Conv1d` that computes with `weight * weight_mask`."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(batch, in, length)`."""
        output: Tensor = self._conv_forward(input, masked_weight(self), gated_bias(self))
        return output


class MaskedConv2d(Masked, nn.Conv2d):
    """`nn.Conv2d` that computes with `weight * weight_mask`."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(batch, in, height, width)`."""
        output: Tensor = self._conv_forward(input, masked_weight(self), gated_bias(self))
        return output


class MaskedConv3d(Masked, nn.Conv3d):
    """`nn.Conv3d` that computes with `weight * weight_mask`."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(batch, in, depth, height, width)`."""
        output: Tensor = self._conv_forward(input, masked_weight(self), gated_bias(self))
        return output
