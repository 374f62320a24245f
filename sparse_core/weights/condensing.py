"""Which tensors get a condensed form, and how many values it has room for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from sparse_core.budgets.patterns import ConstantFanIn, group_of
from sparse_core.budgets.selection import Selected
from sparse_core.budgets.structure import Structure
from sparse_core.layers.choice import (
    Candidate,
    condensed_embedding_pays,
    fastest_acting,
    pay_together,
)
from sparse_core.layers.condensed import why_not_condensed
from sparse_core.layers.condensed_conv import why_not_condensed_conv
from sparse_core.layers.device_choice import condensed_pays_there
from sparse_core.weights.tensor import SparseTensor


def capacity_of(tensor: SparseTensor, slack: float = 0.0) -> int:
    """Return how many values a tensor can need at any time of its training.

    A smaller last group is stored as large as the others, and groups that are ablated leave it
    more fan-in, so this may exceed the budget by a few weights.

    Args:
        tensor: The sparse weight.
        slack: MEST's: so much of the budget more.
    """
    most = max(tensor.budget, tensor.initial_budget, tensor.count())
    most = min(tensor.numel, int(most * (1 + slack)) + 1 if slack else most)
    structure = tensor.structure
    if not isinstance(structure, ConstantFanIn):
        return most
    sizes = structure.sizes(tensor.rows)
    unused = structure.group - int(sizes[-1])
    needed = [tensor.count()]
    if not unused:
        return max(most, *needed)
    for live in _possible_lanes(tensor, len(sizes)):
        widest = min(tensor.cols, most // (live * structure.group - unused) + 1)
        needed.append(min(most, live * structure.group * tensor.cols) + unused * widest)
    return max(needed)


def _possible_lanes(tensor: SparseTensor, lanes: int) -> Iterable[int]:
    if tensor.may_ablate:
        return range(1, lanes + 1)
    return (lanes if tensor.padding is None else lanes - 1,)


def worth_condensing(
    capacities: Mapping[SparseTensor, int], root: nn.Module, batch: int, acts: float = 0.0
) -> dict[SparseTensor, int]:
    """Return the tensors whose module trains fastest when they are condensed.

    Args:
        capacities: Tensors that can be condensed, and how many values they can need.
        root: Their module.
        batch: Samples of a training batch.
        acts: Single samples that the module is asked about for each training batch.
    """
    from sparse_core.layers.chaining import neighbours

    if any(not tensor.weight.is_cpu for tensor in capacities):
        return {
            t: capacity for t, capacity in capacities.items() if _pays_there(t, capacity, batch)
        }
    free = [t for t in capacities if not isinstance(t.layer, nn.Conv2d) and t.reader is None]
    tensors = {t.layer: t for t in free}
    attention = _attention_that_pays(capacities, batch)
    chosen = {t.layer for t, c in capacities.items() if _convolution_pays(t, c, batch)}
    chosen |= {t.layer for t in capacities if _looked_up_faster(t, capacities, batch)}
    paths = _paths(tensors, neighbours(root))
    layers = [[_candidate(layer, tensors.get(layer), capacities) for layer in p] for p in paths]
    for path, pay in zip(paths, fastest_acting(layers, batch, acts), strict=True):
        chosen |= {layer for layer, pays in zip(path, pay, strict=True) if pays}
    return {
        t: capacity
        for t, capacity in capacities.items()
        if (t.layer in chosen if t.reader is None else t.reader in attention)
    }


def _attention_that_pays(
    capacities: Mapping[SparseTensor, int], batch: int
) -> set[nn.MultiheadAttention]:
    """Return the attention modules whose projections, all of them, are condensed."""
    projections: dict[nn.MultiheadAttention, list[Candidate]] = {}
    for tensor in capacities:
        if tensor.reader is not None:
            candidate = _candidate(tensor.layer, tensor, capacities)
            projections.setdefault(tensor.reader, []).append(candidate)
    return {reader for reader, layers in projections.items() if pay_together(layers, batch)}


def _looked_up_faster(
    tensor: SparseTensor, capacities: Mapping[SparseTensor, int], batch: int
) -> bool:
    """Whether it is an embedding for which there are kernels, and these pay."""
    if not isinstance(tensor.layer, nn.Embedding) or tensor.weight.dtype != torch.float32:
        return False
    density = min(1.0, capacities[tensor] / tensor.numel)
    return condensed_embedding_pays(tensor.rows, tensor.cols, density, batch)


def _convolution_pays(tensor: SparseTensor, capacity: int, batch: int) -> bool:
    """Whether a weight is that of a convolution that trains faster condensed."""
    layer = tensor.layer
    if not isinstance(layer, nn.Conv2d) or tensor.weight.dtype != torch.float32:
        return False
    from sparse_core.layers.conv_choice import conv_pays

    return conv_pays(layer, min(capacity, tensor.numel), group_of(tensor.structure), batch)


def _pays_there(tensor: SparseTensor, capacity: int, batch: int) -> bool:
    """Whether a layer on a GPU was measured to be faster condensed."""
    if isinstance(tensor.layer, nn.Embedding):
        return False
    shape = tensor.rows, tensor.cols, min(1.0, capacity / tensor.numel)
    return condensed_pays_there(tensor.weight, *shape, group_of(tensor.structure), batch)


def _paths(
    layers: Iterable[nn.Module], pairs: Iterable[tuple[nn.Module, nn.Module]]
) -> list[list[nn.Module]]:
    """Return the layers in runs of neighbours, among which there may be others."""
    after = dict(pairs)
    every = dict.fromkeys([*after, *after.values(), *layers])
    paths: list[list[nn.Module]] = []
    for first in every.keys() - after.values():
        path = [first]
        while path[-1] in after:
            path.append(after[path[-1]])
        paths.append(path)
    reached = {layer for path in paths for layer in path}
    # A layer that is used twice may follow itself.
    return paths + [[layer] for layer in every if layer not in reached]


def _candidate(
    layer: nn.Module, tensor: SparseTensor | None, capacities: Mapping[SparseTensor, int]
) -> Candidate:
    if tensor is None:
        assert isinstance(layer, nn.Linear)
        return Candidate(layer.out_features, layer.in_features, None)
    density = None
    if tensor.weight.dtype == torch.float32 and not isinstance(layer, nn.Embedding):
        density = min(1.0, capacities[tensor] / tensor.numel)
    return Candidate(tensor.rows, tensor.cols, density, group_of(tensor.structure))


def reasons_to_mask(sparse: Iterable[Selected], structure: Structure) -> dict[str, str]:
    """Return which weights have no condensed form, by name, and why; arguments as `why_masked`.

    The projections of one attention module have the same form.
    """
    items = list(sparse)
    reasons = {item.name: why_masked(item, structure) for item in items}
    found = {name: why for name, why in reasons.items() if why is not None}
    for item in items:
        if item.reader is not None and item.name not in found:
            beside = [one.name for one in items if one.reader is item.reader and one.name in found]
            if beside:
                found[item.name] = f"as {beside[0]!r}, which is of the same attention"
    return found


def why_masked(item: Selected, structure: Structure) -> str | None:
    """Return why a weight that is to be sparse has no condensed form, or None if it has one.

    Args:
        item: The weight.
        structure: That of its topology.
    """
    weight, group = item.weight, group_of(structure)
    lookup = isinstance(item.layer, nn.Embedding)
    if isinstance(item.layer, nn.Conv2d):
        return why_not_condensed_conv(item.layer, group)
    if item.reader is not None:
        if not weight.is_cpu:
            return f"on {weight.device.type} attention trains with masks only"
    elif not (lookup or isinstance(item.layer, nn.Linear)):
        return f"{type(item.layer).__name__} trains with masks only"
    if item.born:
        return None
    reason = why_not_condensed(weight)
    if reason is not None:
        return reason
    if lookup and group != 1:
        return "its tokens share their columns"
    return None
