"""Updates of large condensed layers on a GPU, in memory bounded by a block of rows.

What `sparse_core.updaters.blocked` does on the CPU, by operations of torch where the weights are:
the drop looks at the stored values only, and grow scores are made a block of rows at a time. Small
layers are ranked as matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_core.budgets.patterns import ConstantFanIn, Unstructured
from sparse_core.budgets.ranking import MINUS_INFINITY, top_of_layer
from sparse_core.updaters.blocked import LaneBlock
from sparse_core.updaters.ranked import Ranking
from sparse_core.updaters.scene import Moment, Scene, Score, checked
from sparse_core.updaters.slots import StoredScene
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor


def ranks_on_device(tensor: SparseTensor) -> bool:
    """Whether a tensor is large, on a GPU, and has a structure that can be ranked in blocks."""
    known = isinstance(tensor.structure, Unstructured | ConstantFanIn)
    large = isinstance(tensor, CondensedTensor) and tensor.layer.on_device and tensor.in_blocks
    return known and large


@dataclass(frozen=True)
class RankedOnDevice(Ranking):
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
    def of(cls, tensor: SparseTensor, moment: Moment, drop: Score, grow: Score) -> RankedOnDevice:
        """Score the active cells of one layer."""
        assert isinstance(tensor, CondensedTensor)
        index, group = tensor.layer.index, tensor.layer.group
        rows, columns, places = index.coordinates()
        order = places[(rows * tensor.cols + columns).argsort()]
        weights = tensor.weight.detach()[order].unsqueeze(0)
        scene = StoredScene(
            tensor, moment, torch.ones_like(weights, dtype=torch.bool), stored=weights
        )
        scores = checked(drop(scene), "drop score", scene).squeeze(0)
        used = int(index.indptr[-1])
        values = scores.new_zeros(used * group)
        values[order] = scores
        lane, column = index.owners[:used].long(), index.columns[:used].long()
        keep = values.reshape(used, group).T.contiguous().sum(0)
        if isinstance(tensor.structure, ConstantFanIn) and group > 1:
            keep = keep / tensor.structure.sizes(tensor.rows).to(lane.device)[lane]
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
        group, indptr = tensor.layer.group, tensor.layer.index.indptr.tolist()
        for rows in tensor.row_blocks():
            lanes = slice(rows.start // group, -(-rows.stop // group))
            scene = Scene(tensor, self.scene.moment, tensor.active(rows), rows.start, streams)
            scores = tensor.structure.cells(checked(self.grow_score(scene), "grow score", scene))
            slots = slice(indptr[lanes.start], indptr[lanes.stop])
            yield LaneBlock(lanes, slots, scores.reshape(-1, tensor.cols))

    def _spread(self, block: LaneBlock, of_slots: Tensor) -> Tensor:
        """Write values of active cells into the shape of a block of cells, zero elsewhere."""
        spread = of_slots.new_zeros(block.scores.shape)
        lanes = self.lane[block.slots] - block.lanes.start
        spread[lanes, self.column[block.slots]] = of_slots[block.slots]
        return spread

    def _best_but(self, taken: Tensor, count: int) -> Tensor:
        """Return the places, in the matrix of cells, of the best cells outside a set, ascending.

        Among equal scores the first cells are taken.
        """
        places, best = self.lane[:0], self.keep[:0]
        for block in self._blocks() if count > 0 else ():
            scores = block.scores.masked_fill(self._spread(block, taken), MINUS_INFINITY)
            chosen = top_of_layer(scores, scores > MINUS_INFINITY, count).reshape(-1)
            found = chosen.nonzero().squeeze(1)
            places = torch.cat([places, found + block.lanes.start * self.tensor.cols])
            best = torch.cat([best.to(scores.dtype), scores.reshape(-1)[found]])
            first = best.argsort(descending=True, stable=True)[:count].sort().values
            places, best = places[first], best[first]
        return places

    def _refill_lanes(self, kept: Tensor, capacity: Tensor) -> Tensor:
        """Return the places of all cells that lanes hold afterwards, ascending."""
        places = []
        for block in self._blocks():
            after = self.tensor.structure.refill(
                self._spread(block, kept),
                self._spread(block, self.keep),
                block.scores,
                capacity[block.lanes],
            )
            flat = after.reshape(-1).nonzero().squeeze(1)
            places.append(flat + block.lanes.start * self.tensor.cols)
        return torch.cat(places)

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
        dropped, grown = before[~torch.isin(before, after)], after[~torch.isin(after, before)]
        had, have = self._per_lane(self.lane) > 0, self._per_lane(after // cols) > 0
        return Delta(
            self._positions(dropped),
            self._positions(grown),
            self._rows(had & ~have),
            self._rows(have & ~had),
        )

    def _positions(self, places: Tensor) -> Tensor:
        """Return the flat positions of the weights of cells, ascending."""
        group, cols = self.tensor.layer.group, self.tensor.cols
        members = torch.arange(group, device=places.device)
        rows = (places // cols * group).unsqueeze(1) + members
        flat = rows * cols + (places % cols).unsqueeze(1)
        return flat[rows < self.tensor.rows].sort().values

    def _rows(self, lanes: Tensor) -> Tensor:
        """Return the rows of some lanes."""
        rows = lanes.repeat_interleave(self.tensor.layer.group)[: self.tensor.rows]
        return rows.nonzero().squeeze(1)
