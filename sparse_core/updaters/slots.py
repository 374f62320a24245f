"""Updates of condensed layers, which look at the active weights slot by slot.

Drop scores are made of the stored weights alone, so the drop never sees a matrix. Grow scores are
one matrix of cells; compiled selection (`sparse_core.kernels.selection`) finds the best of them
without a sort or a copy. Scores, random numbers and ties are those of `Ranked`, and so is the
result, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.budgets.patterns import ConstantFanIn, Unstructured
from sparse_core.kernels import magnitudes, moves, selection
from sparse_core.kernels.coordinates import ordered
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.selection import cut_lanes, fill_lanes, top_of
from sparse_core.kernels.slots import count_kernel
from sparse_core.updaters.ranked import Ranking
from sparse_core.updaters.scene import Moment, Scene, Score, checked
from sparse_core.updaters.scores import gradient, magnitude
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.delta import Delta
from sparse_core.weights.dense_gradient import DenseGradient
from sparse_core.weights.tensor import SparseTensor

_SELECTED = (torch.float32, torch.float64)  # dtypes of scores that kernels select from


def ranks_slots(tensor: SparseTensor) -> bool:
    """Whether a tensor is condensed, on the CPU, and of a structure that is ranked slot by slot."""
    known = isinstance(tensor.structure, Unstructured | ConstantFanIn)
    return known and isinstance(tensor, CondensedTensor) and not tensor.layer.on_device


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
class RankedSlots(Ranking):
    """A layer of which only the active cells are held; cells are (groups, cols) for any structure.

    Attributes:
        scene: What the drop score looked at.
        grow_score: The grow score.
        keep: `(slots,)` drop scores.
        active: `(slots,)` bool, all True; sets of active cells have this shape.
    """

    scene: StoredScene
    grow_score: Score
    keep: Tensor
    active: Tensor

    @classmethod
    def of(cls, tensor: SparseTensor, moment: Moment, drop: Score, grow: Score) -> Self:
        """Score the active cells of one layer."""
        assert isinstance(tensor, CondensedTensor)
        pattern = tensor.layer.pattern
        if drop is magnitude and tensor.weight.dtype == torch.float32:
            sizes = magnitudes.of_slots(pattern, tensor.weight.detach().numpy())
            if sizes is not None:
                slots = torch.ones(pattern.slots, dtype=torch.bool)
                scene = StoredScene(tensor, moment, slots)
                return cls(scene, grow, torch.from_numpy(sizes), slots)
        stored = tensor.weight.detach().numpy()[: pattern.size]
        order = None if pattern.group == 1 else ordered(pattern)[0]
        weights = torch.from_numpy(
            stored.copy() if order is None else stored.take(order)
        ).unsqueeze(0)
        scene = StoredScene(
            tensor, moment, torch.ones_like(weights, dtype=torch.bool), stored=weights
        )
        scores = checked(drop(scene), "drop score", scene).squeeze(0)
        keep = scores
        if order is not None:
            keep = torch.zeros(pattern.size, dtype=scores.dtype)
            keep.scatter_(0, torch.from_numpy(order), scores)
        if isinstance(tensor.structure, ConstantFanIn) and pattern.group > 1:
            keep = reduce(torch.add, keep.reshape(pattern.slots, pattern.group).unbind(1))
            keep = keep / tensor.structure.sizes(tensor.rows)[_lanes(pattern)]
        return cls(scene, grow, keep, torch.ones(pattern.slots, dtype=torch.bool))

    @property
    def tensor(self) -> CondensedTensor:
        """The sparse weight."""
        assert isinstance(self.scene.tensor, CondensedTensor)
        return self.scene.tensor

    @property
    def pattern(self) -> Pattern:
        """Its topology."""
        return self.tensor.layer.pattern

    @cached_property
    def lane(self) -> Tensor:
        """`(slots,)` int64, groups of the active cells, ascending."""
        return _lanes(self.pattern)

    @cached_property
    def grow(self) -> NDArray[Any]:
        """`(groups, cols)` grow scores of all cells."""
        found = self._magnitudes() if self.grow_score is gradient else None
        if found is not None:
            return found
        scene = Scene(self.tensor, self.scene.moment, self.tensor.active())
        scores = checked(self.grow_score(scene), "grow score", scene)
        return selected(self.tensor.structure.cells(scores)).reshape(-1, self.tensor.cols)

    def _magnitudes(self) -> NDArray[np.float32] | None:
        """Return |gradient| of all cells; None where it is not finite or not float32."""
        dense = DenseGradient(self.tensor).rows()
        if dense is None or dense.dtype != torch.float32:
            return None
        return magnitudes.of_matrix(dense.detach().contiguous().numpy(), self.pattern.group)

    @cached_property
    def closed(self) -> NDArray[np.bool_] | None:
        """`(rows, cols)` bool, where weights may not grow; None: nowhere."""
        closed = self.tensor.closed()
        return None if closed is None else closed.numpy()

    def strongest(self, count: int, live: Tensor | None = None) -> Tensor:
        """Return the active cells of highest drop scores."""
        among = self.active if live is None else live.index_select(0, self.lane)
        return torch.from_numpy(top_of(selected(self.keep), among.numpy(), count))

    def counts(self, cells: Tensor) -> Tensor:
        """Return how many of a set each lane has."""
        counts = np.zeros(-(-self.tensor.rows // self.pattern.group), np.int64)
        count_kernel()(self.pattern.indptr, self.pattern.rows, cells.numpy(), counts)
        return torch.from_numpy(counts)

    def promising(self, count: int) -> Tensor:
        """Return how many of the best inactive cells each lane has."""
        best = self.best_outside(self.active, count)
        lanes = -(-self.tensor.rows // self.pattern.group)
        return torch.bincount(torch.from_numpy(best // self.tensor.cols), minlength=lanes)

    def refill(self, kept: Tensor, capacity: Tensor) -> Delta:
        """Bring every lane to its capacity."""
        keep = selected(self.keep)
        if not isinstance(self.tensor.structure, ConstantFanIn):
            budget = int(capacity)
            stays = top_of(keep, kept.numpy(), budget)
            grown = self.best_outside(torch.from_numpy(stays), budget - int(stays.sum()))
            return self.outcome(stays, grown)
        stays = cut_lanes(keep, self.pattern, kept.numpy(), capacity.numpy())
        left = capacity - self.counts(torch.from_numpy(stays))
        return self.outcome(
            stays, fill_lanes(self.grow, self.pattern, stays, left.numpy(), self.closed)
        )

    def best_outside(self, taken: Tensor, count: int) -> NDArray[np.int64]:
        """Return the places, in the matrix of cells, of the best cells outside a set, ascending."""
        if count <= 0:
            return np.empty(0, np.int64)
        return selection.best_outside(self.grow, self.pattern, taken.numpy(), count, self.closed)

    def outcome(self, stays: NDArray[np.bool_], grown: NDArray[np.int64]) -> Delta:
        """Return the Delta after which some slots are left and the cells at some places grown."""
        return Delta(*map(torch.from_numpy, moves.outcome(self.pattern, stays, grown)))


def _lanes(pattern: Pattern) -> Tensor:
    return torch.from_numpy(np.repeat(pattern.rows.astype(np.int64), np.diff(pattern.indptr)))


def selected(scores: Tensor) -> NDArray[Any]:
    """Return scores as an array that kernels select from."""
    return (scores if scores.dtype in _SELECTED else scores.float()).numpy()
