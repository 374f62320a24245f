"""Updates of condensed layers by a rule that looks at some places only.

The drop looks at the stored weights, growth at the cells that the rule names; nothing of the size
of the matrix is made. A lane that is short of candidates keeps the strongest of the weights that it
dropped; what it lacks then (other lanes were ablated) grows at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.budgets.patterns import ConstantFanIn
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.selection import cut_lanes, top_of
from sparse_core.rules import growth_of
from sparse_core.updaters.places import View, checked_cells, checked_scores, drawn_besides
from sparse_core.updaters.slots import RankedSlots, ranks_slots, selected
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor

LANES = 4096
"""Lanes that are looked at together where a rule goes by rows."""


def ranks_places(tensor: SparseTensor) -> bool:
    """Whether a tensor is condensed, on the CPU, and can grow anywhere."""
    return ranks_slots(tensor) and tensor.closed() is None


@dataclass(frozen=True)
class Sample:
    """The cells that a rule named in some lanes, and their grow scores.

    Attributes:
        lanes: Which lanes.
        pattern: The cells, one lane a group of rows.
        places: (n,) int64, the same as lane * cols + column, ascending.
        scores: (n,) floats.
        held: (n,) bool, those that are active cells.
    """

    lanes: slice
    pattern: Pattern
    places: NDArray[np.int64]
    scores: NDArray[Any]
    held: NDArray[np.bool_]


@dataclass(frozen=True)
class RankedPlaces(RankedSlots):
    """A layer of which a growth rule names the cells to look at."""

    @cached_property
    def cells(self) -> NDArray[np.int64]:
        """(slots,) int64, the active cells as lane * cols + column, ascending."""
        found: NDArray[np.int64] = self.lane.numpy() * self.tensor.cols + self.pattern.columns
        return found

    def samples(self) -> Iterator[Sample]:
        """Yield what the rule names, some lanes at a time if it goes by rows."""
        facts = growth_of(self.grow_score)
        assert facts is not None and facts.places is not None
        lanes = -(-self.tensor.rows // self.pattern.group)
        step = LANES if facts.by_rows else lanes
        kept: dict[str, Any] = {}
        for first in range(0, lanes, step):
            part = slice(first, min(first + step, lanes))
            view = View(self.tensor, self.scene.moment, part, self.pattern.slots, kept)
            places = checked_cells(facts.places(view), view)
            pattern, scores = view.scores(places)
            held = among(places, self.cells)
            yield Sample(part, pattern, places, selected(checked_scores(scores, view)), held)

    def refill(self, kept: Tensor, capacity: Tensor) -> Delta:
        """Bring every lane to its capacity."""
        if not isinstance(self.tensor.structure, ConstantFanIn):
            return self._refill_matrix(kept, int(capacity))
        keep = selected(self.keep)
        stays = cut_lanes(keep, self.pattern, kept.numpy(), capacity.numpy())
        left = (capacity - self.counts(torch.from_numpy(stays))).numpy()
        grown, short = [np.empty(0, np.int64)], left.copy()
        kept_cells = self.cells[stays]
        for sample in self.samples():
            free = ~among(sample.places, kept_cells)
            chosen = cut_lanes(sample.scores, sample.pattern, free, left[sample.lanes])
            grown.append(sample.places[chosen])
            took = np.bincount(grown[-1] // self.tensor.cols - sample.lanes.start,
                               minlength=sample.lanes.stop - sample.lanes.start)  # fmt: skip
            short[sample.lanes] -= took
        places = np.concatenate(grown)
        if short.any():
            back = cut_lanes(keep, self.pattern, self._gone(stays, places), short)
            stays |= back
            short -= self.counts(torch.from_numpy(back)).numpy()
        if short.any():
            held = np.sort(np.concatenate([self.cells[stays], places]))
            cols = self.tensor.cols
            lengths = np.bincount(held // cols, minlength=short.size)
            pattern = Pattern.from_lengths(held % cols, lengths, cols, short.size)
            places = np.sort(np.concatenate([places, drawn_besides(self.scene, pattern, short)]))
        return self.outcome(stays, places)

    def _refill_matrix(self, kept: Tensor, budget: int) -> Delta:
        """Do the same where all cells are one lane."""
        keep = selected(self.keep)
        stays = top_of(keep, kept.numpy(), budget)
        grown = self.best_outside(torch.from_numpy(stays), budget - int(stays.sum()))
        short = budget - int(stays.sum()) - grown.size
        if short:
            stays |= top_of(keep, self._gone(stays, grown), short)
        return self.outcome(stays, grown)

    def _gone(self, stays: NDArray[np.bool_], grown: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return the slots that are dropped and not grown again."""
        return ~stays & ~among(self.cells, grown)

    def best_outside(self, taken: Tensor, count: int) -> NDArray[np.int64]:
        """Return the places, in the matrix of cells, of the best cells outside a set, ascending."""
        if count <= 0:
            return np.empty(0, np.int64)
        outside = self.cells[taken.numpy()]
        places, scores = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for sample in self.samples():
            free = ~among(sample.places, outside)
            places.append(sample.places[free])
            scores.append(sample.scores[free])
        every, all_scores = np.concatenate(places), np.concatenate(scores)
        return every[top_of(all_scores, np.ones(every.size, np.bool_), count)]


def among(places: NDArray[np.int64], those: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of some places are in an ascending array."""
    if not those.size:
        return np.zeros(places.size, np.bool_)
    at = np.searchsorted(those, places)
    found: NDArray[np.bool_] = those[np.minimum(at, those.size - 1)] == places
    return found
