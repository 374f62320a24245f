"""Updaters: what all share, and the drop-and-grow update of SET, RigL and SRigL.

    kept   = the active weights less the n lowest drop scores, n = floor(fraction * active)
    mask'  = kept, brought back to its budget by the highest grow scores, lane by lane

Dropped weights are candidates for growth like any other; one that is dropped and grown at once
simply stays, with its value and its optimizer state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch

from sparse_core.budgets.selection import Selected
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.rules import drop_of, growth_of
from sparse_core.updaters.blocked import RankedInBlocks, ranks_in_blocks
from sparse_core.updaters.demands import drop_score, grow_score, needed, own_rules
from sparse_core.updaters.device_blocks import RankedOnDevice, ranks_on_device
from sparse_core.updaters.drawn import RankedDrawn, ranks_draws
from sparse_core.updaters.placed import RankedPlaces, ranks_places
from sparse_core.updaters.ranked import Ranked, Ranking
from sparse_core.updaters.scene import Moment, Score
from sparse_core.updaters.slots import RankedSlots, ranks_slots
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import SparseTensor


class Updater(ABC):
    """Computes what an update changes; changes nothing itself.

    Attributes:
        config: The configuration.
        method: What its method is.
        needs: What it has to see of the gradient: `nothing`, `gradient`, `momentum` or `signals`.
        penalises: Whether it changes gradients before an optimizer step.
        watches_neurons: Whether it asks which neurons fire.
    """

    needs = "nothing"
    penalises = False
    watches_neurons = False

    def __init__(self, config: SparseConfig) -> None:
        self.config = config
        self.method = config.facts

    @abstractmethod
    def propose(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the Delta of each tensor; all of them take part in the update.

        Raises:
            RuntimeError: If a score needs a gradient that did not flow.
            FloatingPointError: If a weight or a score is NaN or infinite.
        """

    def changes(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the Delta of each tensor; an empty one for those that sit the update out.

        Raises:
            InputError: If a rule of the user's own returns no scores; its file is named.
            RuntimeError: If a score needs a gradient that did not flow.
            FloatingPointError: If a weight or a score is NaN or infinite.
        """
        moving = [tensor for tensor in tensors if tensor not in moment.idle]
        try:
            proposed = iter(self.propose(moving, moment) if moving else [])
        except InputError as error:
            raise InputError(f"{own_rules(self.config)}{error}") from error
        return [
            unchanged(tensor) if tensor in moment.idle else next(proposed) for tensor in tensors
        ]

    def check_step(self, horizon: int | None, *, closure: bool) -> None:
        """Check that an optimizer step can be made.

        Args:
            horizon: Length of the training; None: unknown.
            closure: Whether the step makes its own gradients.

        Raises:
            RuntimeError: If the method needs a horizon, or cannot be used with a closure.
        """
        method, skip = self.config.method, self.config.skip_step
        if self.config.needs_horizon and horizon is None:
            raise RuntimeError(
                f"method={method!r}: its schedule needs the length of the training; give `horizon` "
                "or call Engine.set_horizon before the first optimizer step"
            )
        if closure and (self.penalises or skip):
            raise RuntimeError(
                f"method={method!r}, skip_step={skip}: gradients are changed before the "
                "optimizer's step, which is too early for one with a closure"
            )

    def budgets(
        self, sparse: Sequence[Selected], initial: Mapping[str, int], final: Mapping[str, int]
    ) -> dict[str, int]:
        """Return how many weights of each tensor are active in the end.

        Args:
            sparse: The weights.
            initial: Active weights of each at the beginning.
            final: What the distribution gives to each, of which the sum counts.
        """
        return dict(final)

    def start(self, tensor: SparseTensor, index: int = 0) -> None:  # noqa: B027 - most have nothing to do
        """Prepare a tensor whose first mask and weights were just set.

        Args:
            tensor: The tensor.
            index: Names the draw, as in `Engine.redraw`: each task has its own.
        """

    def after_update(self, tensors: Sequence[SparseTensor]) -> None:  # noqa: B027
        """Update what else depends on the masks."""

    def before_step(self, tensors: Sequence[SparseTensor]) -> None:  # noqa: B027
        """Change the gradients before an optimizer step."""


PLACED = ("unstructured", "constant_fan_in")
"""Structures in which a lane that is short of a rule's places can keep what it dropped."""


class DropAndGrow(Updater):
    """Drops the weights with the lowest drop scores, grows those with the highest grow scores.

    Attributes:
        in_matrices: Whether what it does with a ranking takes one in matrices, a `Ranked`.

    Raises:
        InputError: If growth names places and the structure is not one of `PLACED`.
    """

    in_matrices = False

    def __init__(self, config: SparseConfig) -> None:
        super().__init__(config)
        self.drop_score: Score = drop_score(config)
        self.grow_score: Score = grow_score(config)
        self.needs = needed(config)
        drop, growth = drop_of(self.drop_score), growth_of(self.grow_score)
        assert drop is not None and growth is not None
        self.by_weights = drop.by_weights
        self.by_rows = growth.by_rows and drop.by_weights
        self.uniform = growth.uniform and drop.by_weights
        self.by_places = growth.places is not None and drop.by_weights
        if growth.places is not None and config.structure_in_force not in PLACED:
            raise InputError(
                f"growth={config.growth!r}: names some places only, which needs structure "
                f"{' or '.join(PLACED)}, not {config.structure_in_force}",
                field="growth",
            )

    def propose(self, tensors: Sequence[SparseTensor], moment: Moment) -> list[Delta]:
        """Return the Delta of each tensor, layer by layer."""
        deltas = []
        for tensor in tensors:
            if tensor.full or not tensor.weight.requires_grad:
                deltas.append(unchanged(tensor))
            else:
                deltas.append(self.rewire(self._ranking(tensor, moment), moment))
        return deltas

    def _ranking(self, tensor: SparseTensor, moment: Moment) -> Ranking:
        """Rank the cells of one layer, in the cheapest of the ways that lead to the same."""
        kind: type[RankedSlots | RankedOnDevice] | None = None
        if self.by_places and ranks_places(tensor):
            kind = RankedPlaces
        elif self.uniform and ranks_draws(tensor):
            kind = RankedDrawn
        elif self.by_rows and ranks_on_device(tensor):
            kind = RankedOnDevice
        elif self.by_rows and ranks_in_blocks(tensor):
            kind = RankedInBlocks
        elif self.by_weights and ranks_slots(tensor):
            kind = RankedSlots
        if kind is None or self.in_matrices:
            return self.rank(tensor, moment)
        return kind.of(tensor, moment, self.drop_score, self.grow_score)

    def rank(self, tensor: SparseTensor, moment: Moment) -> Ranked:
        """Score the cells of one layer, in matrices."""
        return Ranked.of(tensor, moment, self.drop_score, self.grow_score)

    def rewire(self, layer: Ranking, moment: Moment) -> Delta:
        """Return what the update changes in one layer."""
        kept = layer.strongest(layer.size - int(moment.fraction * layer.size))
        return layer.refill(kept, layer.capacity())


def unchanged(tensor: SparseTensor) -> Delta:
    """Return a Delta that changes nothing."""
    none = torch.zeros(0, dtype=torch.int64, device=tensor.weight.device)
    return Delta(none, none, none, none)
