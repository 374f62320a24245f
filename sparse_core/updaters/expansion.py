"""Neuroplastic Expansion: a network grows, and gives up weights of neurons that do not fire."""

from __future__ import annotations

from torch import Tensor

from sparse_core.budgets.ranking import top_of_layer
from sparse_core.updaters.ranked import Ranked, Ranking
from sparse_core.updaters.rigl import RigL
from sparse_core.updaters.scene import Moment
from sparse_core.weights.delta import Delta

PRUNED = 0.4
"""At most so many weights are dropped for each one that is grown (the published code's 0.4)."""


class NeuroplasticExpansion(RigL):
    """Neuroplastic Expansion (NE; Liu et al. 2025, section 4): grow by gradient, prune the dormant.

    At each update a layer grows to the density of the schedule, where the gradient is largest. It
    first drops active weights into dormant neurons, the smallest ones, but never more than 0.4 of
    what it grows.

    Deviations:

    - The density of the schedule is met exactly: what is pruned is grown elsewhere in addition.
    - A neuron is dormant by its activity in the last training batch. The published code has two
      measures and drops the smallest weights of all neurons by default.
    - The topology is frozen when the schedule ends; the published code then goes on as RigL does.
    - Experience review, which replays early transitions, is not part of a topology and not built.
    - The first mask is random, not that of the largest initial weights, unless scores are given.
    """

    watches_neurons = True
    in_matrices = True

    def rewire(self, layer: Ranking, moment: Moment) -> Delta:
        """Return what the update changes in one layer."""
        assert isinstance(layer, Ranked)
        net = max(0, layer.target - layer.size)
        most = int(PRUNED * net / (1 - PRUNED) + 1e-9)
        return layer.refill(layer.active & ~self._pruned(layer, moment, most), layer.capacity())

    def _pruned(self, layer: Ranked, moment: Moment, most: int) -> Tensor:
        """Return the weakest active weights of dormant neurons, as a set of cells."""
        tensor, activity = layer.tensor, moment.activity
        dormant = None
        if activity is not None:
            dormant = activity.dormant(tensor.layer, self.config.dormant_threshold)
        if dormant is None or most == 0:
            return layer.active & False
        rows = dormant.unsqueeze(1).expand(tensor.rows, tensor.cols)
        among = layer.active & tensor.structure.cells(rows.to(layer.keep)).bool()
        return top_of_layer(-layer.keep, among, most)
