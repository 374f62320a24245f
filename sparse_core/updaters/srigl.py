"""SRigL: RigL with constant fan-in and neuron ablation."""

from __future__ import annotations

from torch import Tensor

from sparse_core.ablation import live_lanes, threshold
from sparse_core.topology import SparseTensor
from sparse_core.updaters.base import top_of_layer
from sparse_core.updaters.rigl import RigL


class SRigL(RigL):
    """Structured RigL (Lasby et al. 2024, section 3).

    1. n_prune = floor(fraction * active), n_keep = active - n_prune.
    2. Salient: the n_keep largest active weights, the n_prune inactive positions of largest
       gradient.
    3. Neurons with fewer salient positions than the threshold are ablated.
    4. k' = budget // neurons left.
    5. The n_keep largest weights outside ablated neurons stay, at most the k' largest of each
       neuron.
    6. Each neuron left grows to k' by gradient magnitude.

    Ablation is decided anew at each update, so a neuron can come back. Neurons of an output layer
    are never ablated.
    """

    def rewire(
        self,
        tensor: SparseTensor,
        active: Tensor,
        keep_scores: Tensor,
        grow_scores: Tensor,
        fraction: float,
    ) -> Tensor:
        """Return the active cells after the update; see the base class."""
        n_active = int(active.sum())
        n_prune = int(fraction * n_active)
        strongest = top_of_layer(keep_scores, active, n_active - n_prune)
        live = None
        if tensor.may_ablate:
            promising = top_of_layer(grow_scores, ~active, n_prune)
            live = live_lanes(
                strongest | promising,
                threshold(self.config.ablation_threshold, tensor.budget // tensor.rows),
                least_lanes=-(-tensor.budget // tensor.cols),
            )
            strongest = strongest & live.unsqueeze(1)
        capacity = tensor.structure.capacity(tensor.budget, tensor.rows, tensor.cols, live)
        return tensor.structure.refill(
            strongest, keep_scores, grow_scores, capacity.to(active.device)
        )
