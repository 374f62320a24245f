"""Size of the weights: it grows where a network loses its plasticity (Lyle et al. 2023)."""

from __future__ import annotations

import math

import torch

from sparse_core.engine import Engine


@torch.no_grad()
def weight_rms(engine: Engine) -> float:
    """Return the root of the mean square over active weights, dense layers included.

    Biases and normalisation do not count. NaN if there is no weight.
    """
    sparse = {tensor.name: tensor for tensor in engine.tensors}
    squares, count = 0.0, 0
    for item, layer in zip(engine.selected, engine.layers(), strict=True):
        own = sparse.get(item.name)
        if own is None:
            weights = getattr(item.layer, item.parameter)
        else:
            weights = own.values()[own.active()]
        squares += float(weights.detach().double().square().sum())
        count += layer.active
    return math.sqrt(squares / count) if count else math.nan
