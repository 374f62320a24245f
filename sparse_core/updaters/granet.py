"""GraNet: gradual pruning whose every step also drops and regrows."""

from __future__ import annotations

from collections.abc import Sequence

from sparse_core.budgets.ranking import top_of_layer
from sparse_core.config import SparseConfig
from sparse_core.updaters.demands import grow_score
from sparse_core.updaters.pruning import GMP
from sparse_core.updaters.ranked import available_cells
from sparse_core.updaters.scene import Moment, Scene, checked
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor


class GraNet(GMP):
    """Gradual pruning with zero-cost neuroregeneration (Liu et al. 2021, Alg. 1).

    The network is pruned to the density of the schedule; then each layer drops its fraction of
    smallest weights once more and regrows as many by gradient magnitude.
    """

    def __init__(self, config: SparseConfig) -> None:
        super().__init__(config)
        self.grow_score = grow_score(config)

    def propose(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the Delta of each tensor."""
        deltas = []
        for tensor, mask in zip(tensors, self.pruned(tensors, moment), strict=True):
            scene = Scene(tensor, moment, tensor.active())
            active = int(mask.sum())
            n_drop = int(moment.fraction * active)
            kept = top_of_layer(self.drop_score(scene), mask, active - n_drop)
            grow = checked(self.grow_score(scene), "grow score", scene)
            grow = available_cells(tensor, grow).reshape(grow.shape)
            deltas.append(Delta.between(scene.active, kept | top_of_layer(grow, ~kept, n_drop)))
        return deltas
