"""The masked linear layer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sparse_core.layers.masked import Masked, gated_bias, masked_weight
from sparse_core.layers.tap import GradientTap


class MaskedLinear(Masked, nn.Linear):
    """`nn.Linear` that computes with `weight * weight_mask`.

    Made from an `nn.Linear` in place by `sparsify`. `weight_mask: (out, in)` has the weight's
    dtype, 1 = active.
    """

    weight_tap: GradientTap

    def forward(self, input: Tensor) -> Tensor:
        """Map `(..., in)` to `(..., out)`."""
        output = F.linear(input, masked_weight(self), gated_bias(self))
        tap = self.weight_tap
        return tap.watch_signals(input, output, self.weight) if tap.armed else output
