"""How much of a network is used up: under disjoint masks each task leaves less for the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sparse_core.topology import SparseTensor


@dataclass(frozen=True)
class Capacity:
    """How far one layer is used up.

    Attributes:
        name: The weight's full name in the network.
        used: Weights that belong to ended tasks.
        total: All weights.
        budget: Weights that one more task asks for.
    """

    name: str
    used: int
    total: int
    budget: int


def capacity_of(tensor: SparseTensor) -> Capacity:
    """Count what ended tasks hold of one shared weight."""
    used = 0 if tensor.protected is None else int(tensor.protected.sum())
    return Capacity(tensor.name, used, tensor.numel, tensor.budget)


def room_in(tensor: SparseTensor) -> int:
    """Return how many more tasks fit beside the ended ones."""
    structure = tensor.structure
    taken = tensor.protected
    if taken is None:
        taken = torch.zeros(tensor.shape, dtype=torch.bool)
    cells = structure.cells(taken.reshape(tensor.rows, tensor.cols).double())
    needed = structure.capacity(tensor.budget, tensor.rows, tensor.cols).clamp(min=1)
    return int(((cells == 0).sum(1).cpu() // needed).min())
