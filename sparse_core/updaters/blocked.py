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
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.budgets.patterns import ConstantFanIn
from sparse_core.budgets.ranking import MINUS_INFINITY
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.selection import cut_lanes, fill_lanes
from sparse_core.kernels.topk import top_blocks
from sparse_core.updaters.scene import Scene, checked
from sparse_core.updaters.slots import RankedSlots, ranks_slots, selected
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor


def ranks_in_blocks(tensor: SparseTensor) -> bool:
    """Whether a tensor is large and has a structure that can be ranked in blocks."""
    return ranks_slots(tensor) and isinstance(tensor, CondensedTensor) and tensor.in_blocks


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
class RankedInBlocks(RankedSlots):
    """A layer whose grow scores are made a block of rows at a time."""

    def refill(self, kept: Tensor, capacity: Tensor) -> Delta:
        """Bring every lane to its capacity."""
        if not isinstance(self.tensor.structure, ConstantFanIn):
            return super().refill(kept, capacity)
        stays = cut_lanes(selected(self.keep), self.pattern, kept.numpy(), capacity.numpy())
        left = (capacity - self.counts(torch.from_numpy(stays))).numpy()
        return self.outcome(stays, self._grown(stays, left))

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
            scores = scores.reshape(-1, tensor.cols)
            if tensor.padding is not None and lanes.start <= tensor.padding < lanes.stop:
                padding = torch.tensor([tensor.padding - lanes.start])
                scores = scores.index_fill(0, padding, MINUS_INFINITY)
            yield LaneBlock(lanes, slice(int(low), int(high)), scores)

    def _spread(self, block: LaneBlock, of_slots: Tensor) -> Tensor:
        """Write values of active cells into the shape of a block of cells, zero elsewhere."""
        spread = torch.zeros(block.scores.shape, dtype=of_slots.dtype)
        columns = torch.from_numpy(self.pattern.columns[block.slots].astype(np.int64))
        spread[self.lane[block.slots] - block.lanes.start, columns] = of_slots[block.slots]
        return spread

    def best_outside(self, taken: Tensor, count: int) -> NDArray[np.int64]:
        """Return the places, in the matrix of cells, of the best cells outside a set, ascending."""
        if count <= 0:
            return np.empty(0, np.int64)
        blocks = (
            (b.lanes.start, b.scores.masked_fill(self._spread(b, taken), MINUS_INFINITY).numpy())
            for b in self._blocks()
        )
        return np.sort(top_blocks(blocks, self.tensor.cols, count)[0])

    def _grown(self, stays: NDArray[np.bool_], counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of the `counts[i]` best free cells of lane i, ascending."""
        # Allocated at once: small results between large blocks would fragment the heap.
        places, filled = np.empty(int(counts.sum()), np.int64), 0
        for block in self._blocks():
            best = fill_lanes(
                selected(block.scores),
                self._pattern_of(block),
                stays[block.slots],
                counts[block.lanes],
            )
            places[filled : filled + best.size] = best + block.lanes.start * self.tensor.cols
            filled += best.size
        return places[:filled]

    def _pattern_of(self, block: LaneBlock) -> Pattern:
        """Return the active cells of a block as a layer of their own."""
        whole, lanes, slots = self.pattern, block.lanes, block.slots
        first, last = np.searchsorted(whole.rows, [lanes.start, lanes.stop])
        return Pattern(
            whole.in_features,
            len(block.scores) * whole.group,
            whole.group,
            whole.columns[slots],
            whole.indptr[first : last + 1] - slots.start,
            whole.rows[first:last] - np.int32(lanes.start),
        )
