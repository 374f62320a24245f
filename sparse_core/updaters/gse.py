"""GSE: grow first, from a guided sample, then drop."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sparse_core.budgets.ranking import MINUS_INFINITY, top_of_network
from sparse_core.updaters.base import DropAndGrow, unchanged
from sparse_core.updaters.ranked import Ranked
from sparse_core.updaters.scene import Moment
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor


class GSE(DropAndGrow):
    """Guided stochastic exploration (Heddes et al. 2024, Alg. 1).

    The positions of the sample with the largest gradients are grown; then as many of the weights
    that were active before are dropped, the smallest first. A sample that holds too few inactive
    positions moves fewer weights. `scope="global"`, the published setting, ranks over all layers.
    """

    def propose(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the Delta of each tensor."""
        movable = [t for t in tensors if not t.full]
        ranked = {t.name: self.rank(t, moment) for t in movable}
        after: dict[str, Tensor] = {}
        if self.config.scope == "global":
            after = self._move(list(ranked.values()), moment)
        else:
            for layer in ranked.values():
                after |= self._move([layer], moment)
        return [
            ranked[t.name].delta(after[t.name]) if t.name in ranked else unchanged(t)
            for t in tensors
        ]

    def _move(self, layers: Sequence[Ranked], moment: Moment) -> dict[str, Tensor]:
        active = [layer.active for layer in layers]
        total = sum(int(a.sum()) for a in active)
        candidates = [~layer.active & (layer.grow > MINUS_INFINITY) for layer in layers]
        most = min(sum(int(c.sum()) for c in candidates), total - len(layers))
        n = min(int(moment.fraction * total), most)
        grown = top_of_network([layer.grow for layer in layers], candidates, n)
        kept = top_of_network([layer.keep for layer in layers], active, total - n, each=1)
        return {layer.tensor.name: k | g for layer, k, g in zip(layers, kept, grown, strict=True)}
