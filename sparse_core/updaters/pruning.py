"""Dense-to-sparse baselines: gradual and one-shot magnitude pruning."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sparse_core.budgets.ranking import MINUS_INFINITY, top_of_network
from sparse_core.config import SparseConfig
from sparse_core.updaters.base import Updater
from sparse_core.updaters.demands import drop_score, needed
from sparse_core.updaters.scene import Moment, Scene, checked, target
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor


class GMP(Updater):
    """Gradual magnitude pruning (Zhu and Gupta 2017): the smallest weights go, on a schedule.

    With `scope="global"` weights are ranked over all layers and the distribution only sets the
    total. Layers that sit an update out may hold less than their share; then the other layers keep
    as much more. One-shot pruning is the same with a schedule of one step.
    """

    def __init__(self, config: SparseConfig) -> None:
        super().__init__(config)
        self.drop_score = drop_score(config)
        self.needs = needed(config)

    def propose(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the Delta of each tensor."""
        return [
            Delta.between(tensor.active(), mask)
            for tensor, mask in zip(tensors, self.pruned(tensors, moment), strict=True)
        ]

    def pruned(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Tensor]:
        """Return the `(rows, cols)` bool mask of each tensor, pruned as far as the moment says."""
        scenes = [Scene(tensor, moment, tensor.active()) for tensor in tensors]
        scores = [checked(self.drop_score(scene), "drop score", scene) for scene in scenes]
        targets = [target(tensor, moment) for tensor in tensors]
        if self.config.scope == "global":
            among = [scene.active for scene in scenes]
            lent = sum(target(tensor, moment) - tensor.count() for tensor in moment.idle)
            count = sum(targets) + max(0, lent)
            return top_of_network(scores, among, count, each=1)
        return [
            self._prune_layer(scene, score, count)
            for scene, score, count in zip(scenes, scores, targets, strict=True)
        ]

    def _prune_layer(self, scene: Scene, scores: Tensor, count: int) -> Tensor:
        tensor = scene.tensor
        structure = tensor.structure
        active = structure.any_in_cell(scene.active)
        cells = structure.cells(scores).masked_fill(~active, MINUS_INFINITY)
        return structure.highest(cells, count, tensor.rows, tensor.cols, tensor.open_lanes())
