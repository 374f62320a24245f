"""The patterns there are: unstructured, constant fan-in, N:M, whole neurons and blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_core.budgets.ranking import MINUS_INFINITY
from sparse_core.budgets.structure import Structure
from sparse_core.structure_names import parse_pattern


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
