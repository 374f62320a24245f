"""From one form of a sparse weight to the other, in place.

    condensed_from    of a masked layer only the active weights are stored from here on
    masked_from       a condensed layer stores all weights and a mask again

A layer keeps its name and its bias, its weights, topology and memories, and optimizers keep the
moments. What a network computes, and how it trains on, is the same up to the order of summation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from sparse_core.budgets.patterns import group_of
from sparse_core.layers.attention import MaskedMultiheadAttention
from sparse_core.layers.companions import forget, memories
from sparse_core.layers.condensed import CondensedLinear, become_condensed
from sparse_core.layers.condensed_attention import call_projections, split_off, take_back
from sparse_core.layers.condensed_conv import CondensedConv2d, become_condensed_conv
from sparse_core.layers.conv import MaskedConv2d
from sparse_core.layers.dense import become_dense
from sparse_core.layers.embedding import become_condensed_embedding
from sparse_core.layers.kinds import become
from sparse_core.layers.linear import MaskedLinear
from sparse_core.layers.masked import become_masked
from sparse_core.layers.state import Condensed
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.masked import MaskedTensor
from sparse_core.weights.tensor import SparseTensor


def condensed_from(tensor: MaskedTensor, capacity: int) -> CondensedTensor:
    """Turn a masked linear layer, convolution or embedding into a condensed one, in place.

    Optimizers get its values in the place of the dense weight when they adopt the tensor. Of an
    attention module all sparse projections have to be turned.

    Args:
        tensor: The weight of a `MaskedLinear`, `MaskedConv2d` or `MaskedEmbedding`, or a projection
            of a `MaskedMultiheadAttention`.
        capacity: Weights there is room for.

    Returns:
        The condensed weight.

    Raises:
        ValueError: If the device or dtype cannot be condensed.
    """
    layer, mask = tensor.layer, tensor.active()
    seen, dense, group = tensor.seen(), tensor.weight, group_of(tensor.structure)
    held = memories(layer, tensor.parameter)
    kept = {what: memory.flatten(1) for what, memory in held.items() if what != "seen"}
    if isinstance(layer, nn.MultiheadAttention):
        layer = split_off(layer, tensor.parameter)
    elif tensor.reader is not None:
        call_projections(tensor.reader)
    forget(layer, "weight")
    if isinstance(layer, nn.Embedding):
        become_condensed_embedding(layer, mask, capacity=capacity)
    elif isinstance(layer, nn.Conv2d):
        become_condensed_conv(layer, mask, group=group, capacity=capacity)
    else:
        assert isinstance(layer, nn.Linear)
        become_condensed(layer, mask, group=group, capacity=capacity)
    assert isinstance(layer, Condensed)
    condensed = CondensedTensor(
        tensor.name, layer, "weight", tensor.role, tensor.structure, tensor.budget
    )
    condensed.initial_budget, condensed.may_ablate = tensor.initial_budget, tensor.may_ablate
    condensed.reader = tensor.reader
    condensed.stand_for(dense)
    for what, memory in kept.items():
        condensed.set_companion(what, memory)
    if seen is not None:
        condensed.remember(seen)
    condensed.refresh()
    return condensed


def masked_from(tensor: SparseTensor, *optimizers: Optimizer) -> SparseTensor:
    """Turn a condensed linear layer or convolution into a masked one, in place.

    Args:
        tensor: Its weight; that of any other layer is left alone. There must be no weights of other
            tasks. A gradient that is there is dropped.
        optimizers: Those that train it: they get the dense weight in the place of the values.

    Returns:
        The masked weight.
    """
    layer = tensor.layer
    if not isinstance(layer, (CondensedLinear, CondensedConv2d)):
        return tensor
    assert tensor.protected is None
    values, seen = layer.values, tensor.seen()
    index = layer.index if layer.on_device else None
    pattern = None if layer.on_device else layer.pattern
    shape, mask, kept = layer.weight_shape, layer.mask(), memories(layer, "weight")
    become_dense(layer)
    holder, parameter = _masked_place(tensor)
    masked = MaskedTensor(
        tensor.name, holder, parameter, tensor.role, tensor.structure, tensor.budget
    )
    masked.reader = tensor.reader
    masked.initial_budget, masked.may_ablate = tensor.initial_budget, tensor.may_ablate
    masked.start(mask)
    if seen is not None:
        kept["seen"] = seen.to(masked.mask.dtype)
    for what, memory in kept.items():
        masked.set_companion(what, memory.reshape(shape))

    def dense(value: Any) -> Any:
        if not torch.is_tensor(value) or value.shape != values.shape:
            return value
        if index is not None:
            return index.matrix(value).reshape(shape)
        assert pattern is not None
        return torch.from_numpy(pattern.expand(value.numpy())).reshape(shape)

    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [masked.weight if p is values else p for p in group["params"]]
        state = optimizer.state.pop(values, None)
        if state is not None:
            optimizer.state[masked.weight] = {key: dense(value) for key, value in state.items()}
    return masked


def _masked_place(tensor: SparseTensor) -> tuple[nn.Module, str]:
    """Give a weight that has just become dense a mask of ones; return its layer and its name."""
    layer, parameter = tensor.dense_place
    if isinstance(layer, nn.MultiheadAttention):
        take_back(layer, parameter.removesuffix("_weight"))
        become_masked(layer, MaskedMultiheadAttention, parameter)
        return layer, parameter
    become_masked(layer, MaskedConv2d if isinstance(layer, nn.Conv2d) else MaskedLinear)
    if tensor.reader is not None:
        become(tensor.reader, MaskedMultiheadAttention)
    return layer, parameter
