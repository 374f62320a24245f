"""`Method`: what a method is, in facts that all other files ask for instead of its name.

Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparse_core.checks import InputError, one_of
from sparse_core.structure_names import FAMILIES

MOVES = ("nowhere", "within lanes", "between lanes", "between layers")
"""How far a weight that is dropped in one place can be from the one that is grown for it."""


@dataclass(frozen=True)
class Method:
    """What a method is.

    A method of one's own is such an object in a module, `method="package.module:NAME"`.

    Attributes:
        summary: What it does, in one line.
        updater: Its updater, a subclass of `sparse_core.updaters.Updater` or the import string of
            one; None if the topology never moves.
        growth: The growth rules that it can use, its own first, as names or import strings; none
            if it grows by no rule. A rule that no method lists can be used by every method that
            lists one, if both sample or both do not.
        drop: Its own drop rule; None if it drops by no rule.
        structure: Its own structure.
        structures: The families of structures that it can have.
        moves: How far weights move, one of `MOVES`.
        fields: Fields of `SparseConfig` that mean something to it and not to all.
        cost: What its training costs, a key of `sparse_core.metrics.training_flops.FORMULAS`;
            None: what its growth rule looks at.
        samples: Whether it grows from a sample of the positions.
        sparse: Whether it makes the network sparse at all.
        starts_dense: Whether it prunes a dense network down to the budget.
        begins: The part of the budget with which it begins unless told otherwise; less than 1: it
            grows.
        prunes_once: Whether it prunes, or grows, in one step.
        in_rounds: Whether a run trains several times, each time with fewer weights
            (`sparse_core.tickets`).
        redraws: Whether the last of these trainings begins with new weights.
        latent: Whether inactive weights keep a value of their own (and may be trained).
        adds_parameters: Whether layers get parameters beside their weights.
        needs_masks: Whether it cannot do with condensed layers, for reasons of its own.
        needs_horizon: Whether its schedule is a function of the training's length.
        stops: Whether the topology is frozen at `stop_at`.
        global_scope: Whether it can rank weights over all layers.
        every_step: Whether it updates the mask after every optimizer step.
    """

    summary: str
    updater: str | type | None = None
    growth: tuple[str, ...] = ()
    drop: str | None = "magnitude"
    structure: str = "unstructured"
    structures: tuple[str, ...] = FAMILIES
    moves: str = "within lanes"
    fields: tuple[str, ...] = ()
    cost: str | None = None
    samples: bool = False
    sparse: bool = True
    starts_dense: bool = False
    begins: float = 1.0
    prunes_once: bool = False
    in_rounds: bool = False
    redraws: bool = False
    latent: bool = False
    adds_parameters: bool = False
    needs_masks: bool = False
    needs_horizon: bool = False
    stops: bool = True
    global_scope: bool = False
    every_step: bool = False

    def __post_init__(self) -> None:
        one_of("moves", self.moves, MOVES)
        for field in ("growth", "structures", "fields"):
            value = getattr(self, field)
            if not isinstance(value, tuple) or not all(isinstance(name, str) for name in value):
                raise InputError(f"{field}={value!r}: must be a tuple of names", field=field)
        for family in self.structures:
            one_of("structures", family, FAMILIES)

    @property
    def expands(self) -> bool:
        """Whether it grows a network of fewer weights up to the budget."""
        return self.begins < 1

    def moves_between_layers(self, scope: str) -> bool:
        """Whether a layer can get weights that another one lost; pruning only takes weights.

        Args:
            scope: Over what weights are ranked, `layer` or `global`.
        """
        ranked_together = scope == "global" and self.updater is not None and not self.starts_dense
        return self.moves == "between layers" or ranked_together
