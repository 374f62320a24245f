"""SRigL: RigL with constant fan-in and neuron ablation."""

from __future__ import annotations

from torch import Tensor

from sparse_core.updaters.ablation import least_lanes, live_lanes, threshold
from sparse_core.updaters.ranked import Ranking
from sparse_core.updaters.rigl import RigL
from sparse_core.updaters.scene import Moment
from sparse_core.weights.delta import Delta


class SRigL(RigL):
    """Structured RigL (Lasby et al. 2024, section 3).

    1. n_prune = floor(fraction * active), n_keep = active - n_prune.
    2. Salient: the n_keep largest active weights, the n_prune inactive positions of largest
       gradient.
    3. Neurons with fewer salient positions than the threshold are ablated.
    4. k' = budget // neurons left, and one more for the first of them where that leaves a rest.
    5. The n_keep largest weights outside ablated neurons stay, at most the k' largest of each
       neuron.
    6. Each neuron left grows to k' by gradient magnitude.

    With `group=g`, all of this is done with groups of g neurons and the columns that they share.
    Ablation is decided anew at each update, so a neuron can come back, unless it is sticky.
    Neurons of an output layer are never ablated, nor so many that k' exceeds the places that each
    neuron has free beside the weights of earlier tasks.
    """

    def rewire(self, layer: Ranking, moment: Moment) -> Delta:
        """Return what the update changes in one layer."""
        n_prune = int(moment.fraction * layer.size)
        n_keep = layer.size - n_prune
        kept = layer.strongest(n_keep)
        if not layer.tensor.may_ablate:
            return layer.refill(kept, layer.capacity())
        live = self._live(layer, layer.counts(kept) + layer.promising(n_prune))
        return layer.refill(layer.strongest(n_keep, live), layer.capacity(live))

    def _live(self, layer: Ranking, salient: Tensor) -> Tensor:
        tensor = layer.tensor
        gone = layer.counts(layer.active) == 0 if self.config.ablation_sticky else None
        open_lanes = tensor.open_lanes()
        if open_lanes is not None:
            gone = ~open_lanes if gone is None else gone | ~open_lanes
        lanes = len(salient) if open_lanes is None else int(open_lanes.sum())
        widest = max(1, tensor.widest())
        least = least_lanes(layer.target, tensor.rows, widest, self.config.group)
        wanted = threshold(self.config.ablation_threshold, layer.target / tensor.rows)
        return live_lanes(salient, wanted, min(least, lanes), gone)
