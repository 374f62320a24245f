"""GSE: grow first, from a guided sample, then drop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparse_core.budgets.patterns import ConstantFanIn
from sparse_core.budgets.ranking import MINUS_INFINITY, top_of_network, top_per_lane
from sparse_core.kernels.selection import cut_lanes
from sparse_core.updaters.base import DropAndGrow, unchanged
from sparse_core.updaters.placed import RankedPlaces, ranks_places
from sparse_core.updaters.ranked import Ranked
from sparse_core.updaters.scene import Moment
from sparse_core.updaters.slots import selected
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor


class GSE(DropAndGrow):
    """Guided stochastic exploration (Heddes et al. 2024, Alg. 1).

    The positions of the sample with the largest gradients are grown; then as many of the weights
    that were active before are dropped, the smallest first. A sample that holds too few inactive
    positions moves fewer weights. `scope="global"`, the published setting, ranks over all layers.

    With constant fan-in, which is not published, each neuron (each group) does so for itself: it
    grows the best of its own positions in the sample, at most the fraction of its fan-in, and drops
    as many of its own weights.
    """

    def propose(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the Delta of each tensor."""
        if self.config.scope == "global":
            return self._over_all(tensors, moment)
        return [unchanged(t) if t.full else self._of_layer(t, moment) for t in tensors]

    def _of_layer(self, tensor: SparseTensor, moment: Moment) -> Delta:
        lanes = isinstance(tensor.structure, ConstantFanIn)
        if self.by_places and ranks_places(tensor):
            places = RankedPlaces.of(tensor, moment, self.drop_score, self.grow_score)
            return _move_lanes(places, moment) if lanes else _move_slots(places, moment)
        layer = self.rank(tensor, moment)
        if not lanes:
            return layer.delta(_move([layer], moment)[tensor.name])
        inactive = layer.grow.masked_fill(layer.active, MINUS_INFINITY)
        counts = layer.active.count_nonzero(1)
        most = torch.minimum(counts - 1, (moment.fraction * counts).long()).clamp(min=0)
        grown = top_per_lane(inactive, most)
        left = counts - grown.count_nonzero(1)
        kept = top_per_lane(layer.keep.masked_fill(~layer.active, MINUS_INFINITY), left)
        return layer.delta(kept | grown)

    def _over_all(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        ranked = {t.name: self.rank(t, moment) for t in tensors if not t.full}
        after = _move(list(ranked.values()), moment)
        return [
            ranked[t.name].delta(after[t.name]) if t.name in ranked else unchanged(t)
            for t in tensors
        ]


def _move(layers: Sequence[Ranked], moment: Moment) -> dict[str, Tensor]:
    """Return the active cells of some layers afterwards, by name."""
    active = [layer.active for layer in layers]
    total = sum(int(a.sum()) for a in active)
    candidates = [~layer.active & (layer.grow > MINUS_INFINITY) for layer in layers]
    most = min(sum(int(c.sum()) for c in candidates), total - len(layers))
    n = min(int(moment.fraction * total), most)
    grown = top_of_network([layer.grow for layer in layers], candidates, n)
    kept = top_of_network([layer.keep for layer in layers], active, total - n, each=1)
    return {layer.tensor.name: k | g for layer, k, g in zip(layers, kept, grown, strict=True)}


def _move_slots(layer: RankedPlaces, moment: Moment) -> Delta:
    """Do the same in a condensed layer."""
    n = min(int(moment.fraction * layer.size), layer.size - 1)
    grown = layer.best_outside(layer.active, n)
    stays = layer.strongest(layer.size - grown.size)
    return layer.outcome(stays.numpy(), grown)


def _move_lanes(layer: RankedPlaces, moment: Moment) -> Delta:
    """Do the same in each lane of a condensed layer."""
    cols, counts = layer.tensor.cols, layer.counts(layer.active).numpy()
    most = np.minimum(counts - 1, (moment.fraction * counts).astype(np.int64)).clip(0)
    grown = [np.empty(0, np.int64)]
    for sample in layer.samples():
        chosen = cut_lanes(sample.scores, sample.pattern, ~sample.held, most[sample.lanes])
        grown.append(sample.places[chosen])
    places = np.concatenate(grown)
    left = counts - np.bincount(places // cols, minlength=counts.size)
    stays = cut_lanes(selected(layer.keep), layer.pattern, layer.active.numpy(), left)
    return layer.outcome(stays, places)
