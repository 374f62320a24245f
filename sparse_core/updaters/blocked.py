"""Updates of large condensed layers, in memory bounded by a block of rows and the active weights.

A matrix of 20000 x 20000 takes 1.6 GB, once for weights, once for the gradient; its active weights
at a density of 1/1000 take 1.6 MB. So the drop looks at the stored values only, and the grow scores
are made a block of rows at a time:

    constant fan-in    every lane lies in one block, which is refilled as a small layer would be
    unstructured       the best cells of the blocks so far are kept (`sparse_core.kernels.topk`)

Ablation ranks the inactive cells of the whole layer before any lane can be refilled: it goes over
the blocks twice. Scores, random numbers and ties are those of the whole matrix, so the result is
that of `Ranked`, but for sums of the gradient that BLAS may round otherwise in a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparse_core.budgets.ranking import MINUS_INFINITY, top_of_layer
from sparse_core.budgets.structure import ConstantFanIn, Unstructured
from sparse_core.kernels.coordinates import without
from sparse_core.kernels.topk import top_blocks
from sparse_core.updaters.ranked import Ranking
from sparse_core.updaters.scene import Moment, Scene, Score, checked
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor


def ranks_in_blocks(tensor: SparseTensor) -> bool:
    """Whether a tensor is large and has a structure that can be ranked in blocks."""
    known = isinstance(tensor.structure, Unstructured | ConstantFanIn)
    large = isinstance(tensor, CondensedTensor) and tensor.in_blocks
    return known and large and not tensor.layer.on_device


@dataclass(frozen=True)
class StoredScene(Scene):
    """What a drop score may look at: the active weights alone, as one row in order of position."""

    stored: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """`(1, nnz)` weights."""
        assert self.stored is not None
        return self.stored


@dataclass(frozen=True)
class LaneBlock:
    """The cells of a block of rows.

    Attributes:
        lanes: Their groups, which are rows of the matrix of cells.
        slots: Their active cells, among all of the layer.
        scores: `(lanes, cols)` grow scores.
    """

    lanes: slice
    slots: slice
    scores: Tensor


@dataclass(frozen=True)
class RankedInBlocks(Ranking):
    """A layer of which only the active cells are held; cells are (groups, cols) for any structure.

    Attributes:
        scene: What the drop score looked at.
        grow_score: The grow score.
        lane: `(slots,)` int64, groups of the active cells, ascending.
        column: `(slots,)` int64, their columns, ascending in each group.
        keep: `(slots,)` drop scores.
        active: `(slots,)` bool, all True; sets of active cells have this shape.
    """

    scene: StoredScene
    grow_score: Score
    lane: Tensor
    column: Tensor
    keep: Tensor
    active: Tensor

    @classmethod
    def of(cls, tensor: SparseTensor, moment: Moment, drop: Score, grow: Score) -> RankedInBlocks:
        """Score the active cells of one layer."""
        assert isinstance(tensor, CondensedTensor)
        pattern = tensor.layer.pattern
        rows, columns, source = (torch.from_numpy(array) for array in pattern.coordinates())
        order = source[(rows * tensor.cols + columns).argsort()]
        weights = tensor.weight.detach()[order].unsqueeze(0)
        scene = StoredScene(
            tensor, moment, torch.ones_like(weights, dtype=torch.bool), stored=weights
        )
        scores = checked(drop(scene), "drop score", scene).squeeze(0)
        values = torch.zeros(pattern.size, dtype=scores.dtype)
        values[order] = scores
        lane = torch.from_numpy(np.repeat(pattern.rows.astype(np.int64), np.diff(pattern.indptr)))
        keep = values.reshape(pattern.slots, pattern.group).T.contiguous().sum(0)
        if isinstance(tensor.structure, ConstantFanIn) and pattern.group > 1:
            keep = keep / tensor.structure.sizes(tensor.rows)[lane]
        column = torch.from_numpy(pattern.columns.astype(np.int64))
        return cls(scene, grow, lane, column, keep, torch.ones_like(lane, dtype=torch.bool))

    @property
    def tensor(self) -> CondensedTensor:
        """The sparse weight."""
        assert isinstance(self.scene.tensor, CondensedTensor)
        return self.scene.tensor

    def strongest(self, count: int, live: Tensor | None = None) -> Tensor:
        """Return the active cells of highest drop scores."""
        among = self.active if live is None else live[self.lane]
        return top_of_layer(self.keep.unsqueeze(0), among.unsqueeze(0), count).squeeze(0)

    def counts(self, cells: Tensor) -> Tensor:
        """Return how many of a set each lane has."""
        return self._per_lane(self.lane[cells])

    def promising(self, count: int) -> Tensor:
        """Return how many of the best inactive cells each lane has."""
        return self._per_lane(self._best_but(self.active, count) // self.tensor.cols)

    def refill(self, kept: Tensor, capacity: Tensor) -> Delta:
        """Bring every lane to its capacity."""
        if isinstance(self.tensor.structure, ConstantFanIn):
            return self._delta(self._refill_lanes(kept, capacity))
        budget = int(capacity)
        kept = top_of_layer(self.keep.unsqueeze(0), kept.unsqueeze(0), budget).squeeze(0)
        grown = self._best_but(kept, budget - int(kept.sum()))
        return self._delta(torch.cat([self._places[kept], grown]).sort().values)

    # Blocks ---------------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[LaneBlock]:
        """Score the cells for growth, a block of rows at a time."""
        tensor, streams = self.tensor, dict[str, torch.Generator]()
        group = tensor.layer.group
        for rows in tensor.row_blocks():
            lanes = slice(rows.start // group, -(-rows.stop // group))
            low, high = torch.searchsorted(self.lane, torch.tensor([lanes.start, lanes.stop]))
            active = tensor.active(rows)
            scene = Scene(tensor, self.scene.moment, active, rows.start, streams)
            scores = tensor.structure.cells(checked(self.grow_score(scene), "grow score", scene))
            yield LaneBlock(lanes, slice(int(low), int(high)), scores.reshape(-1, tensor.cols))

    def _spread(self, block: LaneBlock, of_slots: Tensor) -> Tensor:
        """Write values of active cells into the shape of a block of cells, zero elsewhere."""
        spread = torch.zeros(block.scores.shape, dtype=of_slots.dtype)
        spread[self.lane[block.slots] - block.lanes.start, self.column[block.slots]] = of_slots[
            block.slots
        ]
        return spread

    def _best_but(self, taken: Tensor, count: int) -> Tensor:
        """Return the places, in the matrix of cells, of the best cells outside a set."""
        if count == 0:
            return torch.zeros(0, dtype=torch.int64)
        blocks = (
            (b.lanes.start, b.scores.masked_fill(self._spread(b, taken), MINUS_INFINITY).numpy())
            for b in self._blocks()
        )
        return torch.from_numpy(top_blocks(blocks, self.tensor.cols, count)[0])

    def _refill_lanes(self, kept: Tensor, capacity: Tensor) -> Tensor:
        # Allocated at once: small results between large blocks would fragment the heap.
        places, filled = torch.empty(int(capacity.sum()), dtype=torch.int64), 0
        for block in self._blocks():
            after = self.tensor.structure.refill(
                self._spread(block, kept),
                self._spread(block, self.keep),
                block.scores,
                capacity[block.lanes],
            )
            flat = after.reshape(-1).nonzero().squeeze(1)
            places[filled : filled + len(flat)] = flat + block.lanes.start * self.tensor.cols
            filled += len(flat)
        return places[:filled]

    # Places ---------------------------------------------------------------------------------------

    @property
    def _places(self) -> Tensor:
        """`(slots,)` int64, flat places of the active cells in the matrix of cells."""
        return self.lane * self.tensor.cols + self.column

    def _per_lane(self, lanes: Tensor) -> Tensor:
        return torch.bincount(lanes, minlength=-(-self.tensor.rows // self.tensor.layer.group))

    def _delta(self, after: Tensor) -> Delta:
        """Return the Delta that leads to the active cells at some places, ascending."""
        before, cols = self._places, self.tensor.cols
        dropped = without(before.numpy(), after.numpy())
        grown = without(after.numpy(), before.numpy())
        had, have = self._per_lane(self.lane) > 0, self._per_lane(after // cols) > 0
        return Delta(
            self._positions(torch.from_numpy(dropped)),
            self._positions(torch.from_numpy(grown)),
            self._rows(had & ~have),
            self._rows(have & ~had),
        )

    def _positions(self, places: Tensor) -> Tensor:
        """Return the flat positions of the weights of cells, ascending."""
        group, cols = self.tensor.layer.group, self.tensor.cols
        rows = (places // cols * group).unsqueeze(1) + torch.arange(group)
        flat = rows * cols + (places % cols).unsqueeze(1)
        return flat[rows < self.tensor.rows].sort().values

    def _rows(self, lanes: Tensor) -> Tensor:
        """Return the rows of some lanes."""
        rows = lanes.repeat_interleave(self.tensor.layer.group)[: self.tensor.rows]
        return rows.nonzero().squeeze(1)
