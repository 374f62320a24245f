"""What follows from the fields of a `SparseConfig`: facts of its method, rules in force, densities.

Nothing here imports torch.
"""

from __future__ import annotations

from sparse_core.method import Method
from sparse_core.naming import method_named

KEPT_STATES = ("keep", "freeze")
"""The values of `optimizer_state` with which weights outside the mask have moments."""


class InForce:
    """What a configuration means, by properties; its fields are those of `SparseConfig`."""

    method: str
    sparsity: float
    fan_in: int | None
    growth: str | None
    drop: str | None
    decay: str
    horizon: int | None
    structure: str | None
    group: int
    scope: str
    ablation: bool
    initial_sparsity: float | None
    dense: tuple[str, ...]
    never_ablate: tuple[str, ...]
    optimizer_state: str

    @property
    def facts(self) -> Method:
        """What its method is."""
        return method_named(self.method)

    @property
    def density(self) -> float:
        """Fraction of the selected weights that is active."""
        return 0.0 if self.sparsity >= 1 else 1.0 - self.sparsity

    @property
    def asked(self) -> str:
        """What was asked for, in words: a sparsity or a fan-in."""
        return f"sparsity {self.sparsity}" if self.fan_in is None else f"fan-in {self.fan_in}"

    @property
    def density_moves(self) -> bool:
        """Whether the number of active weights changes on a schedule."""
        method = self.facts
        given = "initial_sparsity" in method.fields and self.initial_sparsity is not None
        return method.starts_dense or method.in_rounds or method.expands or given

    @property
    def first_sparsity(self) -> float:
        """The sparsity at the beginning."""
        if not self.density_moves:
            return self.sparsity
        if self.initial_sparsity is not None:
            return self.initial_sparsity
        return 1 - self.density * self.facts.begins if self.facts.expands else 0.0

    @property
    def needs_horizon(self) -> bool:
        """Whether its schedule is a function of the training's length."""
        return self.facts.needs_horizon or self.density_moves

    @property
    def bound_to_length(self) -> str | None:
        """The field whose schedule ends with the training; None: more steps would change nothing.

        With a `horizon` of its own a topology is independent of how long training is.
        """
        method = self.facts
        if method.in_rounds:
            return "rounds"
        if method.updater is None or self.horizon is not None:
            return None
        if self.density_moves:
            return "density_curve"
        if method.stops or self.needs_horizon:
            return "stop_at"
        return "decay" if method.drop is not None and self.decay != "constant" else None

    @property
    def growth_rule(self) -> str | None:
        """The growth rule in force: the configured one, else the method's own."""
        return self.growth or next(iter(self.facts.growth), None)

    @property
    def drop_rule(self) -> str | None:
        """The drop rule in force: the configured one, else the method's own; None: it has none."""
        return None if self.facts.drop is None else self.drop or self.facts.drop

    @property
    def structure_in_force(self) -> str:
        """The structure in force: the configured one, else what `fan_in` needs, or the method's."""
        if self.structure is None and self.fan_in is not None:
            if "constant_fan_in" in self.facts.structures:
                return "constant_fan_in"
        return self.structure or self.facts.structure

    def in_force(self) -> dict[str, object]:
        """Return the rules in force by field; None: the method has no such rule.

        Reports show these; a run's identity knows the fields as they are.
        """
        return {
            "growth": self.growth_rule,
            "drop": self.drop_rule,
            "structure": self.structure_in_force if self.facts.sparse else None,
        }

    @property
    def kept_dense(self) -> tuple[str, ...]:
        """What stays dense: `dense`, and if whole neurons are removed, `never_ablate`."""
        whole = self.structure_in_force == "neurons"
        return self.dense + (self.never_ablate if whole else ())

    @property
    def needs_masks(self) -> str | None:
        """Why no layer can be condensed, or None if some can."""
        method = self.facts
        if method.latent:
            return f"method {self.method!r} needs masked, its inactive weights keep values"
        if method.moves_between_layers(self.scope):
            return (
                f"method {self.method!r} with scope {self.scope!r} needs masked, it moves weights "
                "between layers"
            )
        if method.needs_masks:
            return f"method {self.method!r} needs masked"
        if self.optimizer_state in KEPT_STATES:
            return (
                f"optimizer_state {self.optimizer_state!r} needs masked, dropped weights have no "
                "moments"
            )
        if self.group not in (1, 2, 4, 8, 16, 32):
            return f"group {self.group} needs masked, kernels are for groups of 1, 2, 4, 8, 16, 32"
        return None

    @property
    def across_layers(self) -> bool:
        """Whether weights move between layers, which share one budget then."""
        return self.scope == "global" or self.facts.moves_between_layers(self.scope)

    @property
    def ablates(self) -> bool:
        """Whether whole neurons may be removed by its method."""
        return "ablation" in self.facts.fields and self.ablation
