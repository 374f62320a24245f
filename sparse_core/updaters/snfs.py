"""SNFS: RigL's relative that grows by momentum and moves weights between layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sparse_core.budgets.ranking import top_of_layer
from sparse_core.updaters.ranked import Ranked
from sparse_core.updaters.rigl import RigL
from sparse_core.updaters.scene import Moment
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor


class SNFS(RigL):
    """Sparse networks from scratch (Dettmers and Zettlemoyer 2019, section 3).

    Each layer drops its fraction of smallest weights. What was dropped everywhere is shared among
    the layers in proportion to the mean momentum of their active weights, and grown where the
    momentum is largest. With another growth rule its scores take the place of the momentum. A layer
    that is full passes its surplus on to the others; the network's budget is exact.
    """

    def propose(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the Delta of each tensor."""
        ranked = [self.rank(tensor, moment) for tensor in tensors]
        kept = [self._kept(layer, moment) for layer in ranked]
        dropped = sum(
            int(layer.active.sum()) - int(k.sum()) for layer, k in zip(ranked, kept, strict=True)
        )
        wishes = [max(0.0, float(layer.grow[layer.active].mean())) for layer in ranked]
        room = [
            int((~k & (layer.grow > float("-inf"))).sum())
            for layer, k in zip(ranked, kept, strict=True)
        ]
        deltas = []
        for layer, k, n in zip(ranked, kept, share(dropped, wishes, room), strict=True):
            deltas.append(layer.delta(k | top_of_layer(layer.grow, ~k, n)))
        return deltas

    def _kept(self, layer: Ranked, moment: Moment) -> Tensor:
        active = int(layer.active.sum())
        n_drop = min(int(moment.fraction * active), active - 1)
        return top_of_layer(layer.keep, layer.active, active - n_drop)


def share(total: int, wishes: Sequence[float], room: Sequence[int]) -> list[int]:
    """Share `total` in proportion to the wishes, none above its room, by largest remainder.

    Args:
        total: At most the sum of `room`.
        wishes: Non-negative; if all are zero, the rooms take their place.
        room: The most that each can take.
    """
    counts = [0] * len(room)
    while total > sum(counts):
        left = total - sum(counts)
        open_ = [i for i in range(len(room)) if counts[i] < room[i]]
        weights = {i: wishes[i] for i in open_}
        if sum(weights.values()) <= 0:
            weights = {i: float(room[i] - counts[i]) for i in open_}
        whole = sum(weights.values())
        ideal = {i: left * weights[i] / whole for i in open_}
        given = {i: min(int(ideal[i]), room[i] - counts[i]) for i in open_}
        if not any(given.values()):
            for i in sorted(open_, key=lambda i: int(ideal[i]) - ideal[i])[:left]:
                given[i] = 1
        for i, n in given.items():
            counts[i] += n
    return counts
