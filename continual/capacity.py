"""How much of a network is used up: under disjoint masks each task leaves less for the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_core.structure import ConstantFanIn
from sparse_core.topology import SparseTensor


@dataclass(frozen=True)
class Capacity:
    """How far one layer is used up.

    Attributes:
        name: The weight's full name in the network.
        used: Weights that belong to ended tasks.
        total: All weights.
        budget: Weights that one more task asks for.
        reserved: Neurons that ended tasks keep to themselves.
    """

    name: str
    used: int
    total: int
    budget: int
    reserved: int = 0


def capacity_of(tensor: SparseTensor) -> Capacity:
    """Count what ended tasks hold of one shared weight."""
    used = 0 if tensor.protected is None else int(tensor.protected.sum())
    neurons = tensor.companion("reserved")
    reserved = 0 if neurons is None else int(neurons.sum())
    return Capacity(tensor.name, used, tensor.numel, tensor.budget, reserved)


def room_in(tensor: SparseTensor, reserve: float | None = None) -> int:
    """Return how many more tasks fit beside the ended ones.

    Args:
        tensor: A shared weight.
        reserve: The fraction of the neurons that each task keeps to itself. The result is then a
            lower bound: it is not known beforehand how many of a task's weights lie in the neurons
            that it reserves; here none do.
    """
    if reserve is not None:
        return _room_with_reserves(tensor, reserve)
    structure, shape = tensor.structure, (tensor.rows, tensor.cols)
    left = structure.held(~structure.any_in_cell(~_free(tensor)), *shape)
    needed = structure.capacity(tensor.budget, *shape).clamp(min=1)
    return int((left // needed).min())


def _room_with_reserves(tensor: SparseTensor, fraction: float) -> int:
    structure = tensor.structure
    if isinstance(structure, ConstantFanIn):
        free = _free(tensor)
        open_rows = int(free.any(1).sum())
        step = structure.group * max(1, round(fraction * len(structure.sizes(tensor.rows))))
        left = int(free.sum(1)[free.any(1)].min()) if open_rows else 0
        tasks = 0
        while open_rows > 0 and (fan_in := -(-tensor.budget // open_rows)) <= left:
            open_rows, left, tasks = open_rows - step, left - fan_in, tasks + 1
        return tasks
    step = max(1, round(fraction * tensor.rows)) * tensor.cols
    left = int(_free(tensor).sum())
    tasks = 0
    while tensor.budget <= left:
        left, tasks = left - tensor.budget - step, tasks + 1
    return tasks


def _free(tensor: SparseTensor) -> Tensor:
    """Return `(rows, cols)` bool, where a new task may have weights that are its own."""
    free = torch.ones(tensor.rows, tensor.cols, dtype=torch.bool)
    if tensor.protected is not None:
        free = ~tensor.protected.reshape(tensor.rows, tensor.cols).cpu()
    neurons = tensor.companion("reserved")
    return free if neurons is None else free & ~neurons.cpu().unsqueeze(1)
