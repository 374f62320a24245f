"""Random growth in large layers: places are drawn, at the cost of what is moved.

A number for each cell of 768 x 131,073, of which the highest are taken, costs seconds; most cells
are not asked about. So in layers of more than `DRAWN_ABOVE` weights as many free cells are drawn as
a lane needs, uniformly and without replacement: the same distribution, other draws than those of
smaller layers and of masked ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.budgets.patterns import ConstantFanIn
from sparse_core.kernels.draws import draw_outside
from sparse_core.kernels.selection import cut_lanes, top_of
from sparse_core.updaters.placed import among
from sparse_core.updaters.slots import RankedSlots, ranks_slots, selected
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor

DRAWN_ABOVE = 1 << 24
"""Weights of a matrix, active or not, above which random growth draws places."""


def ranks_draws(tensor: SparseTensor) -> bool:
    """Whether a tensor is so large that random growth draws places."""
    return ranks_slots(tensor) and tensor.numel > DRAWN_ABOVE and tensor.closed() is None


@dataclass(frozen=True)
class RankedDrawn(RankedSlots):
    """A layer that grows anywhere with equal probability; no cell has a grow score."""

    def refill(self, kept: Tensor, capacity: Tensor) -> Delta:
        """Bring every lane to its capacity."""
        keep = selected(self.keep)
        if isinstance(self.tensor.structure, ConstantFanIn):
            stays = cut_lanes(keep, self.pattern, kept.numpy(), capacity.numpy())
            left = capacity - self.counts(torch.from_numpy(stays))
            return self.outcome(
                stays, draw_outside(self.pattern, stays, left.numpy(), self._seed())
            )
        stays = top_of(keep, kept.numpy(), int(capacity))
        return self.outcome(stays, self._anywhere(stays, int(capacity) - int(stays.sum())))

    def best_outside(self, taken: Tensor, count: int) -> NDArray[np.int64]:
        """Return the places, in the matrix of cells, of the best cells outside a set, ascending."""
        return self._anywhere(taken.numpy(), count)

    def _seed(self) -> int:
        return int(torch.randint(1 << 62, (), generator=self.scene.generator("growth")))

    def _anywhere(self, taken: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
        """Draw places of the matrix of cells outside a set of slots, ascending."""
        random = np.random.Generator(np.random.PCG64(self._seed()))
        width = self.tensor.cols
        held = (self.lane.numpy() * width + self.pattern.columns)[taken]
        cells = -(-self.tensor.rows // self.pattern.group) * width
        count = min(count, cells - held.size)
        found = np.empty(0, np.int64)
        while found.size < count:
            more = count - found.size
            drawn = np.unique(random.integers(0, cells, more + more // 8 + 8))
            drawn = drawn[~among(drawn, held) & ~among(drawn, found)]
            if drawn.size > more:
                drawn = np.sort(random.choice(drawn, more, replace=False))
            found = np.sort(np.concatenate([found, drawn]))
        return found
