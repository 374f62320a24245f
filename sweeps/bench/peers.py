"""Layers of other libraries of sparse training, for those who have installed them."""

from __future__ import annotations

from typing import Any

from torch import nn

_kept: list[nn.Module] = []
"""sparselab knows layers by `id`: one that is gone would be taken for the next in its place."""


def sparselab_layer(inputs: int, outputs: int, sparsity: float) -> nn.Module | None:
    """Return a sparselab layer; None: it is not installed."""
    try:
        import sparselab
    except ImportError:
        return None
    layer: nn.Module = sparselab.SparseLinear(inputs, outputs, sparsity=sparsity)
    _kept.append(layer)
    return layer


def sparseprop_layer(dense: nn.Linear) -> nn.Module | None:
    """Return a sparseprop layer with the weights of a dense one; None: it is not installed."""
    try:
        from sparseprop.modules import SparseLinear
    except ImportError:
        return None
    layer: Any = SparseLinear.from_dense(dense)
    assert isinstance(layer, nn.Module)
    return layer


def sparseprop_convolution(dense: nn.Conv2d) -> nn.Module | None:
    """Return a sparseprop convolution with the weights of a dense one; None: not installed."""
    try:
        from sparseprop.modules import SparseConv2d
    except ImportError:
        return None
    layer: Any = SparseConv2d.from_dense(dense)
    assert isinstance(layer, nn.Module)
    return layer
