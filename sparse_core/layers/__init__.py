"""Layers whose weights can be sparse, and the table of dense types that they replace in place."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sparse_core.layers.attention import PROJECTIONS, MaskedMultiheadAttention
from sparse_core.layers.conv import MaskedConv1d, MaskedConv2d, MaskedConv3d
from sparse_core.layers.embedding import MaskedEmbedding
from sparse_core.layers.linear import MaskedLinear

MASKED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: MaskedLinear,
    NonDynamicallyQuantizableLinear: MaskedLinear,
    nn.Conv1d: MaskedConv1d,
    nn.Conv2d: MaskedConv2d,
    nn.Conv3d: MaskedConv3d,
    nn.MultiheadAttention: MaskedMultiheadAttention,
}

MASKED_EMBEDDINGS: dict[type[nn.Module], type[nn.Module]] = {nn.Embedding: MaskedEmbedding}
"""The same for layers that are selected with `SparseConfig.embeddings` only."""

__all__ = [
    "MASKED",
    "MASKED_EMBEDDINGS",
    "PROJECTIONS",
    "MaskedConv1d",
    "MaskedConv2d",
    "MaskedConv3d",
    "MaskedEmbedding",
    "MaskedLinear",
    "MaskedMultiheadAttention",
]
