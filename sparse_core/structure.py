"""Which patterns of active weights are allowed: structures see a matrix as lanes of cells.

A cell is what becomes active or inactive as one; a lane holds a fixed number of active cells:

    structure               cell                          lane          active cells in a lane
    unstructured            a weight                      the matrix    the budget
    constant fan-in         a weight                      a row         k = budget / rows

With that, drawing a first mask, choosing what survives and what grows, and checking a mask are the
same three functions for every structure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

MINUS_INFINITY = float("-inf")


class Structure(ABC):
    """A pattern for a `(rows, cols)` matrix. `mask: (rows, cols) bool`, True = active."""

    name: str

    @abstractmethod
    def least(self, rows: int, cols: int) -> int:
        """Return the fewest active weights the structure can have."""

    @abstractmethod
    def quantum(self, rows: int, cols: int) -> int:
        """Return the number of weights that a budget is a multiple of."""

    @abstractmethod
    def cells(self, scores: Tensor) -> Tensor:
        """View `(rows, cols)` scores as `(lanes, width)`, summed over the weights of a cell."""

    @abstractmethod
    def expand(self, cells: Tensor, rows: int, cols: int) -> Tensor:
        """Turn a `(lanes, width)` bool selection into a `(rows, cols)` mask."""

    @abstractmethod
    def capacity(self, budget: int, rows: int, cols: int, live: Tensor | None = None) -> Tensor:
        """Return `(lanes,)` int64: how many cells of each lane are active.

        Args:
            budget: Active weights in the matrix.
            rows: Its rows.
            cols: Its columns.
            live: `(lanes,)` bool, lanes that are not ablated; None: all.
        """

    def initial(
        self,
        rows: int,
        cols: int,
        budget: int,
        generator: torch.Generator,
        available: Tensor | None = None,
    ) -> Tensor:
        """Draw a mask with `budget` active weights, uniformly among those that are allowed.

        Args:
            rows: Rows of the matrix.
            cols: Its columns.
            budget: Active weights.
            generator: Where the draws come from.
            available: `(rows, cols)` bool, where weights may be; None: everywhere.

        Raises:
            ValueError: If too few weights are available.
        """
        scores = self.cells(torch.rand(rows, cols, generator=generator, dtype=torch.float64))
        capacity = self.capacity(budget, rows, cols)
        if available is not None:
            free = self.cells((~available.cpu()).double()) == 0
            if bool((free.sum(1) < capacity).any()):
                lane = int((free.sum(1) - capacity).argmin())
                raise ValueError(
                    f"{self.name} needs {int(capacity[lane])} free weights in lane {lane}, "
                    f"{int(free.sum(1)[lane])} are left"
                )
            scores = scores.masked_fill(~free, MINUS_INFINITY)
        return self.expand(top_per_lane(scores, capacity), rows, cols)

    def refill(
        self, kept: Tensor, keep_scores: Tensor, grow_scores: Tensor, capacity: Tensor
    ) -> Tensor:
        """Bring every lane to its capacity: truncate by `keep_scores`, grow by `grow_scores`.

        Args:
            kept: `(lanes, width)` bool, cells that survived the drop.
            keep_scores: `(lanes, width)`, the higher the likelier to survive a truncation.
            grow_scores: `(lanes, width)`, the higher the likelier to grow. Cells that were just
                dropped are candidates like any other (RigL, Alg. 1).
            capacity: `(lanes,)` int64.

        Returns:
            `(lanes, width)` bool with exactly `capacity` cells in each lane.
        """
        kept = top_per_lane(keep_scores.masked_fill(~kept, MINUS_INFINITY), capacity) & kept
        missing = capacity - kept.sum(1)
        grown = top_per_lane(grow_scores.masked_fill(kept, MINUS_INFINITY), missing)
        return kept | grown


@dataclass(frozen=True)
class Unstructured(Structure):
    """Any weight may be active."""

    name: str = "unstructured"

    def least(self, rows: int, cols: int) -> int:
        """One weight a layer."""
        return 1

    def quantum(self, rows: int, cols: int) -> int:
        """Any number of weights."""
        return 1

    def cells(self, scores: Tensor) -> Tensor:
        """One lane that holds the matrix."""
        return scores.reshape(1, -1)

    def expand(self, cells: Tensor, rows: int, cols: int) -> Tensor:
        """Shape the lane like the matrix."""
        return cells.reshape(rows, cols)

    def capacity(self, budget: int, rows: int, cols: int, live: Tensor | None = None) -> Tensor:
        """The budget."""
        return torch.tensor([budget])


@dataclass(frozen=True)
class ConstantFanIn(Structure):
    """Neurons that are not ablated have equally many active weights (SRigL, Lasby et al. 2024)."""

    name: str = "constant_fan_in"

    def least(self, rows: int, cols: int) -> int:
        """One weight a neuron."""
        return rows

    def quantum(self, rows: int, cols: int) -> int:
        """One more weight for every neuron."""
        return rows

    def cells(self, scores: Tensor) -> Tensor:
        """A lane a row."""
        return scores

    def expand(self, cells: Tensor, rows: int, cols: int) -> Tensor:
        """Cells are weights."""
        return cells

    def capacity(self, budget: int, rows: int, cols: int, live: Tensor | None = None) -> Tensor:
        """K' = budget // live rows for these, 0 for ablated ones; at most `cols`."""
        if live is None:
            live = torch.ones(rows, dtype=torch.bool)
        fan_in = min(cols, budget // int(live.sum()))
        return live.long() * fan_in


STRUCTURES: dict[str, type[Structure]] = {
    "unstructured": Unstructured,
    "constant_fan_in": ConstantFanIn,
}


def top_per_lane(scores: Tensor, counts: Tensor) -> Tensor:
    """Select the `counts[i]` highest scores of lane i; among equal ones the first.

    Args:
        scores: `(lanes, width)` float; -inf is never selected.
        counts: `(lanes,)` int64.

    Returns:
        `(lanes, width)` bool.
    """
    lanes, width = scores.shape
    counts = counts.to(scores.device).clamp(max=width)
    most = int(counts.max()) if lanes else 0
    if most == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    highest = scores.topk(most, dim=1).values
    threshold = highest.gather(1, (counts - 1).clamp(min=0).unsqueeze(1))
    above = scores > threshold
    tied = (scores == threshold) & (scores > MINUS_INFINITY)
    room = (counts - above.sum(1)).unsqueeze(1)
    picked = above | (tied & (tied.cumsum(1) <= room))
    return picked & (counts > 0).unsqueeze(1)
