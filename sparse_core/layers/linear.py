"""The masked linear layer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sparse_core.layers.masked import gated_bias, masked_weight


class MaskedLinear(nn.Linear):
    """`nn.Linear` that computes with `weight * weight_mask`.

    Made from an `nn.Linear` in place by `sparsify`. `weight_mask: (out, in)`, the weight's dtype,
    1 = active.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map `(..., in)` to `(..., out)`."""
        return F.linear(input, masked_weight(self), gated_bias(self))
