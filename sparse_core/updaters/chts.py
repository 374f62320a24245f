"""CHTs: drop at random by magnitude, grow by the shape of what is left."""

from __future__ import annotations

from dataclasses import replace

from sparse_core.updaters.base import DropAndGrow
from sparse_core.updaters.ranked import Ranked, Ranking, available_cells
from sparse_core.updaters.scene import Moment, Scene, checked
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor


class CHTs(DropAndGrow):
    """Cannistraci-Hebb training with a soft rule (Zhang et al. 2025, section 3).

    Links are predicted in the network that the drop leaves, so growth is scored after it.

    Deviations:

    - Neurons that a drop leaves without inputs or without readers keep their other weights; the
      published code removes these too ("network percolation").
    - The sigmoid decay of density (CHTss) is GMP's and GraNet's `density_curve`, not part of this
      method.
    """

    in_matrices = True

    def rank(self, tensor: SparseTensor, moment: Moment) -> Ranked:
        """Score the cells of one layer for the drop only."""
        scene, structure = Scene(tensor, moment, tensor.active()), tensor.structure
        keep = structure.cells(checked(self.drop_score(scene), "drop score", scene))
        return Ranked(scene, structure.any_in_cell(scene.active), keep, grow=keep)

    def rewire(self, layer: Ranking, moment: Moment) -> Delta:
        """Return what the update changes in one layer."""
        assert isinstance(layer, Ranked)
        tensor = layer.tensor
        kept = layer.strongest(layer.size - int(moment.fraction * layer.size))
        left = tensor.structure.expand(kept, tensor.rows, tensor.cols)
        scene = replace(layer.scene, active=left)
        grow = checked(self.grow_score(scene), "grow score", scene)
        return replace(layer, grow=available_cells(tensor, grow)).refill(kept, layer.capacity())
