"""Updaters: what all share, and the drop-and-grow update of SET, RigL and SRigL.

    kept   = the active weights less the n lowest drop scores, n = floor(fraction * active)
    mask'  = kept, brought back to its budget by the highest grow scores, lane by lane

Dropped weights are candidates for growth like any other; one that is dropped and grown at once
simply stays, with its value and its optimizer state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_core.config import SparseConfig
from sparse_core.ranking import MINUS_INFINITY, top_of_layer
from sparse_core.registry import DROP_NEEDS_GRADIENT, GROWTH_RULES
from sparse_core.scores import Moment, Scene, Score, drop_rule, growth_rule
from sparse_core.topology import Delta, SparseTensor


class Updater(ABC):
    """Computes what an update changes; changes nothing itself.

    Attributes:
        config: The configuration.
        needs: What it has to see of the gradient: `nothing`, `gradient`, `momentum` or `signals`.
        penalises: Whether it changes gradients before an optimizer step.
    """

    needs = "nothing"
    penalises = False

    def __init__(self, config: SparseConfig) -> None:
        self.config = config

    @abstractmethod
    def propose(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the Delta of each tensor.

        Raises:
            RuntimeError: If a score needs a gradient that did not flow.
            FloatingPointError: If a weight or a score is NaN or infinite.
        """

    def start(self, tensor: SparseTensor, index: int = 0) -> None:  # noqa: B027 - most have nothing to do
        """Prepare a tensor whose first mask and weights were just set.

        Args:
            tensor: The tensor.
            index: Names the draw, as in `Engine.redraw`: each task has its own.
        """

    def after_update(self, tensors: Sequence[SparseTensor]) -> None:  # noqa: B027
        """Bring what else depends on the masks up to date."""

    def before_step(self, tensors: Sequence[SparseTensor]) -> None:  # noqa: B027
        """Change the gradients before an optimizer step."""


@dataclass(frozen=True)
class Ranked:
    """A layer at an update, as cells of its structure.

    Attributes:
        scene: What the scores looked at.
        active: `(lanes, width)` bool.
        keep: `(lanes, width)` drop scores; the lowest are dropped.
        grow: `(lanes, width)` grow scores, -inf where nothing may grow.
    """

    scene: Scene
    active: Tensor
    keep: Tensor
    grow: Tensor

    @property
    def tensor(self) -> SparseTensor:
        """The sparse weight."""
        return self.scene.tensor

    def capacity(self, live: Tensor | None = None) -> Tensor:
        """Return how many cells of each lane the budget pays for."""
        tensor, open_lanes = self.tensor, self.tensor.open_lanes()
        if open_lanes is not None:
            live = open_lanes if live is None else live & open_lanes
        capacity = tensor.structure.capacity(tensor.budget, tensor.rows, tensor.cols, live)
        return capacity.to(self.active.device)

    def delta(self, after: Tensor) -> Delta:
        """Return the Delta that leads to the active cells `after`."""
        mask = self.tensor.structure.expand(after, self.tensor.rows, self.tensor.cols)
        return Delta.between(self.scene.active, mask)


class DropAndGrow(Updater):
    """Drops the weights with the lowest drop scores, grows those with the highest grow scores."""

    def __init__(self, config: SparseConfig) -> None:
        super().__init__(config)
        assert config.growth_rule is not None
        self.drop_score: Score = drop_rule(config.drop_rule)
        self.grow_score: Score = growth_rule(config.growth_rule)
        self.needs = GROWTH_RULES[config.growth_rule].needs
        if self.needs == "nothing" and config.drop_rule in DROP_NEEDS_GRADIENT:
            self.needs = "gradient"

    def propose(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the Delta of each tensor, layer by layer."""
        deltas = []
        for tensor in tensors:
            full = tensor.budget == tensor.numel
            if full or not tensor.weight.requires_grad:
                deltas.append(unchanged(tensor))
            else:
                ranked = self.rank(tensor, moment)
                deltas.append(ranked.delta(self.rewire(ranked, moment)))
        return deltas

    def rank(self, tensor: SparseTensor, moment: Moment) -> Ranked:
        """Score the cells of one layer."""
        scene = Scene(tensor, moment, tensor.active())
        cells = tensor.structure.cells
        keep = cells(checked(self.drop_score(scene), "drop score", scene))
        grow = available_cells(tensor, checked(self.grow_score(scene), "grow score", scene))
        return Ranked(scene, tensor.structure.any_in_cell(scene.active), keep, grow)

    def rewire(self, ranked: Ranked, moment: Moment) -> Tensor:
        """Return the `(lanes, width)` bool cells that are active after the update."""
        active = int(ranked.active.sum())
        kept = top_of_layer(ranked.keep, ranked.active, active - int(moment.fraction * active))
        structure = ranked.tensor.structure
        return structure.refill(kept, ranked.keep, ranked.grow, ranked.capacity())


def available_cells(tensor: SparseTensor, scores: Tensor) -> Tensor:
    """View `(rows, cols)` scores as cells, with -inf where the tensor may have no weights."""
    cells, available = tensor.structure.cells(scores), tensor.available()
    if available is None:
        return cells
    return cells.masked_fill(tensor.structure.any_in_cell(~available), MINUS_INFINITY)


def checked(scores: Tensor, what: str, scene: Scene) -> Tensor:
    """Pass scores through, or raise if one is NaN or +inf (-inf means: not a candidate).

    Raises:
        FloatingPointError: Naming the layer, the step and how many.
    """
    bad = int((scores.isnan() | scores.isposinf()).sum())
    if bad:
        raise FloatingPointError(
            f"layer {scene.tensor.name!r}: {bad} of {scores.numel()} values of the {what} are NaN "
            f"or infinite at optimizer step {scene.moment.step}; the topology was not changed"
        )
    return scores


def unchanged(tensor: SparseTensor) -> Delta:
    """Return a Delta that changes nothing."""
    none = torch.zeros(0, dtype=torch.int64, device=tensor.weight.device)
    return Delta(none, none, none, none)
