"""Layers whose weights can be sparse, and the table of dense types that they replace in place."""

from __future__ import annotations

from torch import nn

from sparse_core.layers.conv import MaskedConv1d, MaskedConv2d, MaskedConv3d
from sparse_core.layers.linear import MaskedLinear

MASKED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: MaskedLinear,
    nn.Conv1d: MaskedConv1d,
    nn.Conv2d: MaskedConv2d,
    nn.Conv3d: MaskedConv3d,
}

__all__ = ["MASKED", "MaskedConv1d", "MaskedConv2d", "MaskedConv3d", "MaskedLinear"]
