"""Drop, then grow: the update that SET, RigL and SRigL share.

    kept   = the active weights less the n lowest drop scores, n = floor(fraction * active)
    mask'  = kept, brought back to its budget by the highest grow scores, lane by lane

Dropped weights are candidates for growth like any other; one that is dropped and grown at once
simply stays, with its value and its optimizer state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse_core.config import GROWTH_RULES, SparseConfig
from sparse_core.scores import Moment, Scene, drop_rule, growth_rule
from sparse_core.structure import MINUS_INFINITY, top_per_lane
from sparse_core.topology import Delta, SparseTensor


class Updater:
    """Computes what an update changes; changes nothing itself.

    Attributes:
        config: The configuration.
        needs_gradient: Whether the dense gradient of the step before an update has to be kept.
    """

    def __init__(self, config: SparseConfig) -> None:
        assert config.growth_rule is not None
        self.config = config
        self.drop_score = drop_rule(config.drop)
        self.grow_score = growth_rule(config.growth_rule)
        self.needs_gradient = GROWTH_RULES[config.growth_rule].needs_gradient

    def propose(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the Delta of each tensor.

        Raises:
            RuntimeError: If a score needs a gradient that did not flow.
            FloatingPointError: If a weight or a score is NaN.
        """
        return [self._delta(tensor, moment) for tensor in tensors]

    def _delta(self, tensor: SparseTensor, moment: Moment) -> Delta:
        scene = Scene(tensor, moment, tensor.active())
        if tensor.budget == scene.active.numel():
            return Delta.between(scene.active, scene.active)
        cells = tensor.structure.cells
        keep_scores = cells(finite(self.drop_score(scene), "drop score", scene))
        grow_scores = cells(finite(self.grow_score(scene), "grow score", scene))
        active = cells(scene.active.double()) > 0
        available = tensor.available()
        if available is not None:
            grow_scores = grow_scores.masked_fill(cells((~available).double()) > 0, MINUS_INFINITY)
        after = self.rewire(tensor, active, keep_scores, grow_scores, moment.fraction)
        return Delta.between(scene.active, tensor.structure.expand(after, tensor.rows, tensor.cols))

    def rewire(
        self,
        tensor: SparseTensor,
        active: Tensor,
        keep_scores: Tensor,
        grow_scores: Tensor,
        fraction: float,
    ) -> Tensor:
        """Return the active cells after the update.

        Args:
            tensor: The sparse weight.
            active: `(lanes, width)` bool, before.
            keep_scores: `(lanes, width)`, the lowest are dropped.
            grow_scores: `(lanes, width)`, the highest are grown.
            fraction: Fraction of the active cells to drop.

        Returns:
            `(lanes, width)` bool.
        """
        n_keep = int(active.sum()) - int(fraction * int(active.sum()))
        kept = top_of_layer(keep_scores, active, n_keep)
        capacity = tensor.structure.capacity(tensor.budget, tensor.rows, tensor.cols)
        return tensor.structure.refill(kept, keep_scores, grow_scores, capacity.to(active.device))


def top_of_layer(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """Select the `count` highest scores among the allowed cells of the whole layer.

    Args:
        scores: `(lanes, width)`.
        among: `(lanes, width)` bool.
        count: How many.

    Returns:
        `(lanes, width)` bool.
    """
    flat = scores.masked_fill(~among, MINUS_INFINITY).reshape(1, -1)
    return top_per_lane(flat, torch.tensor([count])).reshape(scores.shape)


def finite(scores: Tensor, what: str, scene: Scene) -> Tensor:
    """Pass scores through, or raise if one is NaN or infinite.

    Raises:
        FloatingPointError: Naming the layer, the step and how many.
    """
    bad = int((~torch.isfinite(scores)).sum())
    if bad:
        raise FloatingPointError(
            f"layer {scene.tensor.name!r}: {bad} of {scores.numel()} values of the {what} are NaN "
            f"or infinite at optimizer step {scene.moment.step}; the topology was not changed"
        )
    return scores
