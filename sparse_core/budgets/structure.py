"""Which patterns of active weights are allowed: structures see a matrix as lanes of cells.

A cell is what becomes active or inactive as one; a lane holds a fixed number of active cells:

    structure           cell                              lane         active cells in a lane
    unstructured        a weight                          the matrix   the budget
    constant fan-in     a weight                          a row        k = budget // rows
    grouped (group=g)   g weights of g neurons, a column  g rows       k = budget // rows
    N:M                 a weight                          M in a row   N
    neurons             a row                             the matrix   what the budget pays for
    R x C blocks        a block                           the matrix   what the budget pays for

With that, drawing a first mask, choosing what survives and what grows, and checking a mask are the
same few functions for every structure.

Where R, C or g do not divide a layer, cells at its edge hold fewer weights. The score of a cell is
the mean over its weights and a random cell draws one number, so no rank follows from a size (but
the mean of fewer weights varies more). A block at an edge costs the budget what it holds, and the
highest blocks are taken as long as the budget pays for a whole one, so that none gets in for being
small: such a layer is less than a block short of its budget, by a number that changes as its
topology moves. Where blocks are equal it has its budget exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_core.budgets.ranking import MINUS_INFINITY, top_within
from sparse_core.structure_names import parse_pattern


class Structure(ABC):
    """A pattern for a `(rows, cols)` matrix. `mask: (rows, cols) bool`, True = active."""

    @abstractmethod
    def least(self, rows: int, cols: int) -> int:
        """Return the fewest active weights the structure can have."""

    @abstractmethod
    def quantum(self, rows: int, cols: int, *, alike: bool = False) -> int:
        """Return the number of weights that a budget is a multiple of.

        Args:
            rows: Rows of the matrix.
            cols: Its columns.
            alike: Whether all lanes must hold equally many.
        """

    @abstractmethod
    def cells(self, scores: Tensor) -> Tensor:
        """View `(rows, cols)` scores as `(lanes, width)`, the mean over the weights of a cell."""

    @abstractmethod
    def expand(self, cells: Tensor, rows: int, cols: int) -> Tensor:
        """Turn a `(lanes, width)` bool selection into a `(rows, cols)` mask."""

    @abstractmethod
    def capacity(self, budget: int, rows: int, cols: int, live: Tensor | None = None) -> Tensor:
        """Return `(lanes,)` int64: how many cells of each lane are active, times their prices.

        Args:
            budget: Active weights in the matrix.
            rows: Its rows.
            cols: Its columns.
            live: `(lanes,)` bool, lanes that are not ablated; None: all.
        """

    def prices(self, rows: int, cols: int) -> Tensor | None:
        """Return `(lanes, width)` int64: how much of its lane's capacity a cell uses; None: one."""
        return None

    def alike(self, draws: Tensor) -> Tensor:
        """Give all weights of a cell the number of its first one, `(rows, cols)`."""
        return draws

    def any_in_cell(self, mask: Tensor) -> Tensor:
        """Return `(lanes, width)` bool: the cells that hold a True of a `(rows, cols)` mask."""
        return self.cells(mask.to(torch.float32)) > 0

    def highest(
        self, cells: Tensor, budget: int, rows: int, cols: int, live: Tensor | None = None
    ) -> Tensor:
        """Return the `(rows, cols)` mask of the highest `(lanes, width)` scores; -inf: never.

        Args:
            cells: The scores.
            budget: Active weights.
            rows: Rows of the matrix.
            cols: Its columns.
            live: `(lanes,)` bool, lanes that get weights; None: all.
        """
        capacity = self.capacity(budget, rows, cols, live)
        return self.expand(top_within(cells, capacity, self.prices(rows, cols)), rows, cols)

    def initial(
        self,
        rows: int,
        cols: int,
        budget: int,
        scores: Tensor,
        available: Tensor | None = None,
        live: Tensor | None = None,
    ) -> Tensor:
        """Return the mask with `budget` active weights of the highest scores that is allowed.

        Args:
            rows: Rows of the matrix.
            cols: Its columns.
            budget: Active weights.
            scores: `(rows, cols)`, random ones, `alike` in a cell, for a random mask.
            available: `(rows, cols)` bool, where weights may be; None: everywhere.
            live: `(lanes,)` bool, lanes that get weights; None: all.

        Raises:
            ValueError: If too few weights are available.
        """
        if live is not None and not bool(live.any()):
            raise ValueError(f"no lane of its {self} is left")
        per_cell = self.cells(scores)
        if available is not None:
            free = ~self.any_in_cell(~available.to(scores.device))
            left = self.held(free, rows, cols)
            capacity = self.capacity(budget, rows, cols, live).to(scores.device)
            short = capacity - left
            if bool((short > 0).any()):
                lane = int(short.argmax())
                raise ValueError(
                    f"lane {lane} of its {self} needs {int(capacity[lane])} free places, "
                    f"{int(left[lane])} are left"
                )
            per_cell = per_cell.masked_fill(~free, MINUS_INFINITY)
        return self.highest(per_cell, budget, rows, cols, live)

    def held(self, cells: Tensor, rows: int, cols: int) -> Tensor:
        """Return `(lanes,)` int64: how much of each lane's capacity a set of cells uses."""
        prices = self.prices(rows, cols)
        return cells.sum(1) if prices is None else (cells * prices.to(cells.device)).sum(1)

    def refill(
        self,
        kept: Tensor,
        keep_scores: Tensor,
        grow_scores: Tensor,
        capacity: Tensor,
        prices: Tensor | None = None,
    ) -> Tensor:
        """Bring every lane to its capacity: truncate by `keep_scores`, grow by `grow_scores`.

        Args:
            kept: `(lanes, width)` bool, cells that survived the drop.
            keep_scores: `(lanes, width)`, the higher the likelier to survive a truncation.
            grow_scores: `(lanes, width)`, the higher the likelier to grow. Cells that were just
                dropped are candidates like any other (RigL, Alg. 1).
            capacity: `(lanes,)` int64.
            prices: As the method of this name gives them.

        Returns:
            `(lanes, width)` bool with as many cells in each lane as `capacity` pays for.
        """
        kept = top_within(keep_scores.masked_fill(~kept, MINUS_INFINITY), capacity, prices) & kept
        spent = kept.sum(1) if prices is None else (kept * prices.to(kept.device)).sum(1)
        left = capacity.to(kept.device) - spent
        return kept | top_within(grow_scores.masked_fill(kept, MINUS_INFINITY), left, prices)

    def check(self, mask: Tensor, budget: int) -> None:
        """Check that a `(rows, cols)` mask obeys the structure; ablated lanes are allowed.

        Raises:
            ValueError: Saying which lane holds how much.
        """
        rows, cols = mask.shape
        cells = self.any_in_cell(mask)
        if not torch.equal(self.expand(cells, rows, cols), mask):
            raise ValueError(f"mask cuts through a cell of its {self}")
        held = self.held(cells, rows, cols)
        live = held > 0
        if not bool(live.any()):
            raise ValueError(f"mask of its {self} is empty")
        capacity = self.capacity(budget, rows, cols, live).to(held.device)
        prices = self.prices(rows, cols)
        dearest = 1 if prices is None else int(prices.max())
        wrong = live & ((held > capacity) | (capacity - held >= dearest))
        if bool(wrong.any()):
            lane = int(wrong.int().argmax())
            unit = "cells" if prices is None else "weights"
            raise ValueError(
                f"lane {lane} of its {self} has {int(held[lane])} of {int(capacity[lane])} {unit}"
            )


@dataclass(frozen=True)
class Unstructured(Structure):
    """Any weight may be active."""

    def least(self, rows: int, cols: int) -> int:
        """One weight a layer."""
        return 1

    def quantum(self, rows: int, cols: int, *, alike: bool = False) -> int:
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

    def __str__(self) -> str:
        return "unstructured mask"


@dataclass(frozen=True)
class ConstantFanIn(Structure):
    """Neurons that are not ablated have equally many active weights (SRigL, Lasby et al. 2024).

    Deviation: where they do not divide the budget, some have one more, so that nothing of it is
    lost, neither at first nor when neurons are ablated. Published is k' rounded down.

    Attributes:
        group: So many consecutive neurons share their input columns and are ablated together; the
            last group is smaller where this does not divide the rows. 1 is SRigL as published.
        equal: Neurons have k' weights and never one more, what is left of the budget stays unused.
            Tasks that divide a layer among them find as much room in each neuron as in any other.
    """

    group: int = 1
    equal: bool = False

    def least(self, rows: int, cols: int) -> int:
        """One weight a neuron."""
        return rows

    def quantum(self, rows: int, cols: int, *, alike: bool = False) -> int:
        """A column of one group; one more weight for every neuron where groups are not alike."""
        return rows if alike or rows % self.group else self.group

    def cells(self, scores: Tensor) -> Tensor:
        """One lane for each group; a cell is the weights of one column, added up in order."""
        if self.group == 1:
            return scores
        sums = reduce(torch.add, self._of_groups(scores).unbind(1))
        return sums / self.sizes(len(scores)).to(sums.device).unsqueeze(1)

    def any_in_cell(self, mask: Tensor) -> Tensor:
        """The cells of which a weight is True."""
        parts = self._of_groups(mask).unbind(1)
        return mask.clone() if self.group == 1 else reduce(torch.logical_or, parts)

    def _of_groups(self, matrix: Tensor) -> Tensor:
        """View a `(rows, cols)` matrix as `(lanes, group, cols)`, zeros where rows are missing."""
        rows, cols = matrix.shape
        padded = F.pad(matrix, (0, 0, 0, -rows % self.group)) if rows % self.group else matrix
        return padded.reshape(-1, self.group, cols)

    def alike(self, draws: Tensor) -> Tensor:
        """A column's weights in a group have the number of the group's first neuron."""
        return self.expand(draws[:: self.group], *draws.shape)

    def expand(self, cells: Tensor, rows: int, cols: int) -> Tensor:
        """Repeat a group's columns for each of its rows."""
        return cells.repeat_interleave(self.group, dim=0)[:rows] if self.group > 1 else cells

    def capacity(self, budget: int, rows: int, cols: int, live: Tensor | None = None) -> Tensor:
        """K' = budget // live rows for live lanes, 0 for ablated ones; at most `cols`.

        What is left of the budget goes to the first of the live lanes, which have k' + 1, unless
        all are to be `equal`.
        """
        sizes = self.sizes(rows)
        live = torch.ones(len(sizes), dtype=torch.bool) if live is None else live
        of_live = live * sizes.to(live.device)
        neurons = int(of_live.sum())
        fan_in = min(cols, budget // neurons)
        left = budget - fan_in * neurons if fan_in < cols and not self.equal else 0
        return live * (fan_in + (of_live.cumsum(0) <= left).long())

    def sizes(self, rows: int) -> Tensor:
        """Return `(lanes,)` int64: the number of neurons in each group."""
        return _parts(rows, self.group)

    def __str__(self) -> str:
        return f"constant fan-in{f' (groups of {self.group})' if self.group > 1 else ''}"


@dataclass(frozen=True)
class NOfM(Structure):
    """N of every M consecutive weights of a row are active (Zhou et al. 2021).

    A last, shorter piece of a row holds at most as many weights as it has.
    """

    n: int
    m: int

    def least(self, rows: int, cols: int) -> int:
        """As many weights as the pattern has."""
        return int(self.capacity(0, rows, cols).sum())

    def quantum(self, rows: int, cols: int, *, alike: bool = False) -> int:
        """All weights of the pattern: there is no other number."""
        return self.least(rows, cols)

    def cells(self, scores: Tensor) -> Tensor:
        """One lane for each piece of M weights; padding of the last piece is never chosen."""
        padded = F.pad(scores, (0, -scores.shape[1] % self.m), value=MINUS_INFINITY)
        return padded.reshape(-1, self.m)

    def expand(self, cells: Tensor, rows: int, cols: int) -> Tensor:
        """Put the pieces of a row together."""
        return cells.reshape(rows, -1)[:, :cols]

    def capacity(self, budget: int, rows: int, cols: int, live: Tensor | None = None) -> Tensor:
        """N, whatever the budget; less where the last piece has fewer weights."""
        pieces = -(-cols // self.m)
        counts = torch.full((pieces,), self.n)
        counts[-1] = min(self.n, cols - self.m * (pieces - 1))
        return counts.repeat(rows)

    def __str__(self) -> str:
        return f"{self.n}:{self.m} pattern"


@dataclass(frozen=True)
class Blocks(Structure):
    """Blocks of R x C weights are active or not as one; `rows=1, cols=0` means whole neurons.

    Attributes:
        height: R, rows of a block.
        width: C, columns of a block; 0: all.
    """

    height: int
    width: int

    def least(self, rows: int, cols: int) -> int:
        """One block."""
        return int(self.prices(rows, cols).max())

    def quantum(self, rows: int, cols: int, *, alike: bool = False) -> int:
        """The greatest common divisor of the blocks' weights, the one in the corner left out."""
        prices = self.prices(rows, cols).reshape(-1)
        return math.gcd(*set((prices[:-1] if len(prices) > 1 else prices).tolist()))

    def cells(self, scores: Tensor) -> Tensor:
        """One lane of blocks, row by row."""
        rows, cols = scores.shape
        width = self._width(cols)
        padded = F.pad(scores, (0, -cols % width, 0, -rows % self.height))
        blocks = padded.reshape(-(-rows // self.height), self.height, -(-cols // width), width)
        sums = blocks.sum((1, 3)).reshape(1, -1)
        return sums / self.prices(rows, cols).to(sums.device)

    def alike(self, draws: Tensor) -> Tensor:
        """A block's weights have the number of its first one."""
        firsts = draws[:: self.height, :: self._width(draws.shape[1])]
        return self.expand(firsts, *draws.shape)

    def expand(self, cells: Tensor, rows: int, cols: int) -> Tensor:
        """Fill the chosen blocks."""
        width = self._width(cols)
        grid = cells.reshape(-(-rows // self.height), -(-cols // width))
        tall = grid.repeat_interleave(self.height, dim=0)
        return tall.repeat_interleave(width, dim=1)[:rows, :cols]

    def prices(self, rows: int, cols: int) -> Tensor:
        """The weights of each block, fewer at the edges."""
        heights = _parts(rows, self.height)
        return (heights.unsqueeze(1) * _parts(cols, self._width(cols))).reshape(1, -1)

    def capacity(self, budget: int, rows: int, cols: int, live: Tensor | None = None) -> Tensor:
        """The budget, of which each block uses as many weights as it holds."""
        return torch.tensor([budget])

    def _width(self, cols: int) -> int:
        return self.width or cols

    def __str__(self) -> str:
        return f"{self.height}x{self.width} blocks" if self.width else "whole neurons"


def _parts(whole: int, size: int) -> Tensor:
    """Return `(n,)` int64: the sizes of the pieces of a length; the last may be smaller."""
    pieces = torch.full((-(-whole // size),), size)
    pieces[-1] = whole - size * (len(pieces) - 1)
    return pieces


def structure_for(name: str, group: int = 1) -> Structure:
    """Return the structure that a configuration names.

    Args:
        name: `unstructured`, `constant_fan_in`, `neurons`, N:M or RxC.
        group: Neurons that share their columns, for constant fan-in.
    """
    pattern = parse_pattern(name)
    if pattern is not None:
        kind, first, second = pattern
        return NOfM(first, second) if kind == ":" else Blocks(first, second)
    if name == "constant_fan_in":
        return ConstantFanIn(group)
    return Blocks(1, 0) if name == "neurons" else Unstructured()


def group_of(structure: Structure) -> int:
    """Return how many consecutive rows share their columns."""
    return structure.group if isinstance(structure, ConstantFanIn) else 1
