"""Moments that were saved beside the other form of a layer, read as those of this one.

`backend="auto"` may condense a layer on one machine and leave it masked on another. A module reads
the state of either form (`sparse_core.layers.translation`); its optimizer's moments lie as the
weights do, dense or in the order of the condensed values, and are brought into place here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_core.budgets.patterns import group_of
from sparse_core.kernels.format import Pattern
from sparse_core.layers.state import Condensed
from sparse_core.weights.tensor import SparseTensor

KINDS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
"""Layers whose masked and condensed form read each other's state."""


def foreign(
    tensors: Iterable[SparseTensor], state: Mapping[str, Any], prefix: str
) -> list[SparseTensor]:
    """Return the weights of layers whose other form a module's state holds."""
    found = []
    for tensor in tensors:
        own = isinstance(tensor.layer, Condensed)
        other = tensor.name if own else f"{tensor.condensed_stem}values"
        if isinstance(tensor.layer, KINDS) and f"{prefix}{other}" in state:
            found.append(tensor)
    return found


def own_moments(
    optimizer: Optimizer, state: dict[str, Any], tensors: Iterable[SparseTensor]
) -> dict[str, Any]:
    """Return an optimizer's saved state with the moments of some weights in the form of ours.

    Args:
        optimizer: That is about to load it.
        state: As `state_dict` returned it; left as it is.
        tensors: Weights whose module has loaded the state of their other form, and the topology
            with it.
    """
    parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    numbers = chain.from_iterable(group["params"] for group in state["param_groups"])
    number_of = {id(p): number for p, number in zip(parameters, numbers, strict=False)}
    entries = dict(state["state"])
    for tensor in tensors:
        number = number_of.get(id(tensor.weight))
        if number in entries:
            entries[number] = {k: _own(v, tensor) for k, v in entries[number].items()}
    return {**state, "state": entries}


def _own(moments: Any, tensor: SparseTensor) -> Any:
    if not torch.is_tensor(moments) or moments.shape == tensor.weight.shape:
        return moments
    layer, weight = tensor.layer, tensor.weight
    if isinstance(layer, Condensed):
        if tuple(moments.shape) != layer.weight_shape:
            return moments
        flat = moments.detach().flatten(1).cpu().numpy()
        values: Tensor = torch.from_numpy(layer.pattern.condense(flat, weight.numel()))
        return values
    pattern = Pattern.from_mask(tensor.active().cpu().numpy(), group_of(tensor.structure))
    if moments.dim() != 1 or moments.numel() < pattern.size:
        return moments
    dense: Tensor = torch.from_numpy(pattern.expand(moments.detach().cpu().numpy()))
    return dense.reshape(weight.shape)
