"""How much of a network is used up: under disjoint masks each task leaves less for the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_core.budgets.patterns import ConstantFanIn
from sparse_core.budgets.selection import Selected
from sparse_core.budgets.structure import Structure
from sparse_core.weights.tensor import SparseTensor


@dataclass(frozen=True)
class Capacity:
    """How far one layer is used up.

    Attributes:
        name: The weight's full name in the network.
        used: Weights that belong to finished tasks.
        total: All weights.
        budget: Weights that one more task asks for.
        reserved: Neurons that finished tasks keep to themselves.
    """

    name: str
    used: int
    total: int
    budget: int
    reserved: int = 0

    @classmethod
    def of(cls, tensor: SparseTensor) -> Capacity:
        """Count what finished tasks hold of one shared weight."""
        used = 0 if tensor.protected is None else int(tensor.protected.sum())
        neurons = tensor.companion("reserved")
        reserved = 0 if neurons is None else int(neurons.sum())
        return cls(tensor.name, used, tensor.numel, tensor.budget, reserved)


@dataclass(frozen=True)
class LayerRoom:
    """One shared layer: what a task asks of it, and where there is room for more tasks.

    Attributes:
        name: The weight's full name in the network.
        rows: Its neurons.
        cols: Their dense fan-in.
        budget: Weights that a task asks for.
        structure: The pattern of its masks.
        cells: `(lanes,) int64`, what the free cells of each lane hold of its capacity.
        free: `(rows,) int64`, free weights of each neuron.
    """

    name: str
    rows: int
    cols: int
    budget: int
    structure: Structure
    cells: Tensor
    free: Tensor

    @classmethod
    def of(cls, tensor: SparseTensor) -> LayerRoom:
        """Look at a shared weight beside the finished tasks."""
        free = _free(tensor)
        return cls._with(tensor.name, free, tensor.budget, tensor.structure)

    @classmethod
    def planned(cls, item: Selected, structure: Structure) -> LayerRoom:
        """Look at a weight that is dense still, and ask nothing of it yet."""
        free = torch.ones(item.rows, item.cols, dtype=torch.bool)
        return cls._with(item.name, free, 0, structure)

    @classmethod
    def _with(cls, name: str, free: Tensor, budget: int, structure: Structure) -> LayerRoom:
        rows, cols = free.shape
        cells = structure.held(~structure.any_in_cell(~free), rows, cols)
        return cls(name, rows, cols, budget, structure, cells, free.sum(1))

    def room(self, reserve: float | None = None) -> int:
        """Return how many more tasks fit.

        Args:
            reserve: The fraction of the neurons that each task keeps to itself. The result is then
                a lower bound: it is not known beforehand how many of a task's weights lie in the
                neurons that it reserves; here none do.
        """
        if reserve is not None:
            return self._room_with_reserves(reserve)
        needed = self.structure.capacity(self.budget, self.rows, self.cols).clamp(min=1)
        return int((self.cells // needed).min())

    def claim(self, tasks: int, reserve: float | None = None) -> int:
        """Return how many cells of each lane the tasks after the next one need.

        Args:
            tasks: How many these are.
            reserve: As above.

        Returns:
            Their constant fan-ins together; 0 for other structures, where all lanes stay in use.
        """
        if not isinstance(self.structure, ConstantFanIn) or tasks < 1:
            return 0
        if reserve is None:
            fan_in = int(self.structure.capacity(self.budget, self.rows, self.cols).max())
            return tasks * fan_in
        step = self._reserved_rows(reserve)
        now = int((self.free > 0).sum())
        open_rows = [now - step * (1 + later) for later in range(tasks)]
        return sum(-(-self.budget // rows) for rows in open_rows if rows > 0)

    def _reserved_rows(self, fraction: float) -> int:
        if not isinstance(self.structure, ConstantFanIn):
            return max(1, round(fraction * self.rows))
        lanes = len(self.structure.sizes(self.rows))
        return self.structure.group * max(1, round(fraction * lanes))

    def _room_with_reserves(self, fraction: float) -> int:
        rows = self._reserved_rows(fraction)
        if isinstance(self.structure, ConstantFanIn):
            unclosed = self.free[self.free > 0]
            open_rows, left = len(unclosed), int(unclosed.min()) if len(unclosed) else 0
            tasks = 0
            while open_rows > 0 and (fan_in := -(-self.budget // open_rows)) <= left:
                open_rows, left, tasks = open_rows - rows, left - fan_in, tasks + 1
            return tasks
        left, tasks = int(self.free.sum()), 0
        while self.budget <= left:
            left, tasks = left - self.budget - rows * self.cols, tasks + 1
        return tasks


def _free(tensor: SparseTensor) -> Tensor:
    """Return `(rows, cols)` bool, where a new task may have weights that are its own."""
    free = torch.ones(tensor.rows, tensor.cols, dtype=torch.bool)
    if tensor.protected is not None:
        free = ~tensor.protected.reshape(tensor.rows, tensor.cols).cpu()
    neurons = tensor.companion("reserved")
    return free if neurons is None else free & ~neurons.cpu().unsqueeze(1)
