"""A layer at an update: its cells, ranked for drop and growth.

Rules such as SRigL's say what is to happen with a `Ranking`, of which there are three:

    Ranked            all scores are (lanes, width) matrices
    RankedSlots       only grow scores are; see `sparse_core.updaters.slots`
    RankedInBlocks    no such matrix is ever made; see `sparse_core.updaters.blocked`
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_core.budgets.patterns import ConstantFanIn
from sparse_core.budgets.ranking import MINUS_INFINITY, top_of_layer, top_per_lane
from sparse_core.kernels.format import Pattern
from sparse_core.updaters.places import drawn_besides
from sparse_core.updaters.scene import Moment, Scene, Score, checked, target
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor


class Ranking(ABC):
    """The cells of a layer's structure, ranked; a set of active cells is a bool tensor.

    Attributes:
        active: All active cells, as a set.
        scene: What the scores looked at.
    """

    active: Tensor
    scene: Scene

    @property
    def tensor(self) -> SparseTensor:
        """The sparse weight."""
        return self.scene.tensor

    @property
    def target(self) -> int:
        """How many weights are to be active after the update."""
        return target(self.tensor, self.scene.moment)

    @property
    def size(self) -> int:
        """Number of active cells."""
        return int(self.active.count_nonzero())

    @abstractmethod
    def strongest(self, count: int, live: Tensor | None = None) -> Tensor:
        """Return the active cells of highest drop scores, as a set.

        Args:
            count: How many in the layer.
            live: `(lanes,)` bool, the lanes that they are looked for in; None: all.
        """

    @abstractmethod
    def counts(self, cells: Tensor) -> Tensor:
        """Return `(lanes,)` int64: how many of a set of active cells each lane has."""

    @abstractmethod
    def promising(self, count: int) -> Tensor:
        """Return `(lanes,)` int64: how many of the best inactive cells, by grow scores, each has.

        Args:
            count: How many in the layer.
        """

    @abstractmethod
    def refill(self, kept: Tensor, capacity: Tensor) -> Delta:
        """Bring every lane to its capacity, as `Structure.refill` does.

        Args:
            kept: The active cells that survived the drop, as a set.
            capacity: `(lanes,)` int64.
        """

    def paid(self, capacity: Tensor) -> int:
        """Return how many of the active cells a capacity pays for, at their mean price."""
        return min(self.size, int(capacity.sum()))

    def capacity(self, live: Tensor | None = None) -> Tensor:
        """Return what the target pays for in each lane, as `Structure.capacity` does.

        Args:
            live: `(lanes,)` bool, lanes that are not ablated; None: all.
        """
        tensor, open_lanes = self.tensor, self.tensor.open_lanes()
        if open_lanes is not None:
            live = open_lanes if live is None else live & open_lanes
        capacity = tensor.structure.capacity(self.target, tensor.rows, tensor.cols, live)
        return capacity.to(tensor.weight.device)


@dataclass(frozen=True)
class Ranked(Ranking):
    """A layer whose scores are held as matrices.

    Attributes:
        scene: What the scores looked at.
        active: `(lanes, width)` bool; sets of cells have this shape too.
        keep: `(lanes, width)` drop scores; the lowest are dropped.
        grow: `(lanes, width)` grow scores, -inf where nothing may grow.
    """

    scene: Scene
    active: Tensor
    keep: Tensor
    grow: Tensor

    @classmethod
    def of(cls, tensor: SparseTensor, moment: Moment, drop: Score, grow: Score) -> Ranked:
        """Score the cells of one layer."""
        scene, structure = Scene(tensor, moment, tensor.active()), tensor.structure
        keep = structure.cells(checked(drop(scene), "drop score", scene))
        grown = available_cells(tensor, checked(grow(scene), "grow score", scene))
        return cls(scene, structure.any_in_cell(scene.active), keep, grown)

    def strongest(self, count: int, live: Tensor | None = None) -> Tensor:
        """Return the active cells of highest drop scores."""
        among = self.active if live is None else self.active & live.unsqueeze(1)
        return top_of_layer(self.keep, among, count)

    def counts(self, cells: Tensor) -> Tensor:
        """Return how many of a set each lane has."""
        return cells.count_nonzero(1)

    def promising(self, count: int) -> Tensor:
        """Return how many of the best inactive cells each lane has."""
        return top_of_layer(self.grow, ~self.active, count).count_nonzero(1)

    def paid(self, capacity: Tensor) -> int:
        """Return how many of the active cells a capacity pays for, at their mean price."""
        shape = (self.tensor.rows, self.tensor.cols)
        held = int(self.tensor.structure.held(self.active, *shape).sum())
        return min(self.size, self.size * int(capacity.sum()) // max(1, held))

    def refill(self, kept: Tensor, capacity: Tensor) -> Delta:
        """Bring every lane to its capacity.

        One that is short of candidates keeps its strongest cells; what it lacks then is drawn.
        """
        structure = self.tensor.structure
        prices = structure.prices(self.tensor.rows, self.tensor.cols)
        after = structure.refill(kept, self.keep, self.grow, capacity, prices)
        if prices is None:
            wanted = capacity.to(after.device)
            gone = self.keep.masked_fill(~self.active | after, MINUS_INFINITY)
            after |= top_per_lane(gone, wanted - after.count_nonzero(1))
            short = (wanted - after.count_nonzero(1)).clamp(min=0)
            if bool(short.any()) and isinstance(structure, ConstantFanIn):
                after |= self._drawn(after, short)
        return self.delta(after)

    def _drawn(self, held: Tensor, short: Tensor) -> Tensor:
        """Draw as many more cells for each lane as it is short of, `(lanes, width)` bool."""
        closed = self.tensor.closed()
        taken = held if closed is None else held | self.tensor.structure.any_in_cell(closed)
        pattern = Pattern.from_mask(taken.cpu().numpy())
        places = drawn_besides(self.scene, pattern, short.cpu().numpy())
        drawn = torch.zeros(held.shape, dtype=torch.bool)
        drawn.view(-1)[torch.from_numpy(places)] = True
        return drawn.to(held.device)

    def delta(self, after: Tensor) -> Delta:
        """Return the Delta that leads to the active cells `after`."""
        mask = self.tensor.structure.expand(after, self.tensor.rows, self.tensor.cols)
        return Delta.between(self.scene.active, mask)


def available_cells(tensor: SparseTensor, scores: Tensor) -> Tensor:
    """View `(rows, cols)` scores as cells, with -inf where the tensor may have no weights."""
    cells, closed = tensor.structure.cells(scores), tensor.closed()
    if closed is None:
        return cells
    return cells.masked_fill(tensor.structure.any_in_cell(closed), MINUS_INFINITY)
