"""Back from the condensed form to the masked one, in place: for networks that leave the CPU.

A layer keeps its name and its bias, its weights, topology and memories; optimizers get the dense
weight in the place of the values, with its moments. What a network computes, and how it trains on,
is the same up to the order of summation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from sparse_core.layers.condensed import CondensedLinear, become_masked_again
from sparse_core.layers.linear import MaskedLinear
from sparse_core.layers.masked import become_masked
from sparse_core.weights.tensor import SparseTensor


def masked_again(tensor: SparseTensor, *optimizers: Optimizer) -> SparseTensor:
    """Turn a condensed linear layer into a masked one, in place.

    Args:
        tensor: Its weight; that of any other layer is left alone. There must be no weights of other
            tasks. A gradient that is there is dropped.
        optimizers: Those that train it.

    Returns:
        The masked weight.
    """
    layer = tensor.layer
    if not isinstance(layer, CondensedLinear):
        return tensor
    assert tensor.protected is None
    values, pattern, seen = layer.values, layer.pattern, tensor.seen()
    mask = become_masked_again(layer)
    ours = [name for name in layer._buffers if name.startswith("weight_")]
    memories = {name: layer._buffers.pop(name) for name in ours}
    become_masked(layer, MaskedLinear)
    masked = SparseTensor(
        tensor.name, layer, "weight", tensor.role, tensor.structure, tensor.budget
    )
    masked.initial_budget, masked.may_ablate = tensor.initial_budget, tensor.may_ablate
    masked.start(mask)
    if seen is not None:
        masked.set_companion("seen", seen.to(masked.mask.dtype))
    for name in ("weight_gradient_mean", "weight_gradient_square"):
        if name in memories:
            layer.register_buffer(name, memories[name])

    def dense(value: Any) -> Any:
        fits = torch.is_tensor(value) and value.shape == values.shape
        return torch.from_numpy(pattern.expand(value.numpy())) if fits else value

    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [masked.weight if p is values else p for p in group["params"]]
        state = optimizer.state.pop(values, None)
        if state is not None:
            optimizer.state[masked.weight] = {key: dense(value) for key, value in state.items()}
    return masked
