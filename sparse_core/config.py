"""`SparseConfig`: everything that can be said about the sparsity of a network, in one place.

This module imports no torch, so that a sweep's driver can read and check a configuration at no
cost. The tables below are the registries: a new method, growth rule or drop rule is one line here
and one function or class where the line points to.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ROLES = ("input", "hidden", "output")
DISTRIBUTIONS = ("erk", "er", "uniform")
STRUCTURES = ("unstructured", "constant_fan_in")
DECAYS = ("cosine", "linear", "constant", "inverse_power")
INITIALISATIONS = ("scaled", "kaiming", "keep")
OPTIMIZER_STATES = ("zero", "keep", "layer_mean")


@dataclass(frozen=True)
class GrowthRule:
    """Where a growth rule lives and what it needs to see."""

    function: str
    needs_gradient: bool = False


GROWTH_RULES = {
    "random": GrowthRule("sparse_core.scores:random"),
    "gradient": GrowthRule("sparse_core.scores:gradient", needs_gradient=True),
}

DROP_RULES = {
    "magnitude": "sparse_core.scores:magnitude",
}


@dataclass(frozen=True)
class Method:
    """What a method is: its updater, its growth rules (the default first), its structure."""

    updater: str | None = None
    growth: tuple[str, ...] = ()
    structure: str = "unstructured"


METHODS = {
    "dense": Method(),
    "static": Method(),
    "set": Method("sparse_core.updaters.set:SET", growth=("random",)),
    "rigl": Method("sparse_core.updaters.rigl:RigL", growth=("gradient",)),
    "srigl": Method("sparse_core.updaters.srigl:SRigL", ("gradient",), "constant_fan_in"),
}


MOVING_FIELDS = (
    "growth",
    "drop",
    "update_every",
    "drop_fraction",
    "decay",
    "horizon",
    "stop_at",
    "optimizer_state",
)
"""The fields that concern updates only."""


@dataclass(frozen=True)
class SparseConfig:
    """How sparse a network is, and how its topology moves.

    Attributes:
        method: One of `METHODS`. `dense` leaves the network alone, `static` never moves the
            topology.
        sparsity: Fraction of the selected weights that is inactive, in [0, 1).
        distribution: How the budget is shared among layers: `erk`, `er` (Mocanu et al. 2018) or
            `uniform`.
        growth: Which inactive weights are grown; None is the method's own rule.
        drop: Which active weights are dropped.
        structure: `unstructured` or `constant_fan_in`; None is the method's own structure.
        update_every: Optimizer steps between two updates of the topology (Delta T).
        drop_fraction: Fraction of a layer's active weights that the first update moves (alpha).
        decay: How that fraction falls until `stop_at * horizon`.
        horizon: Training length in optimizer steps. None: told later with `Engine.set_horizon`;
            until then the fraction stays at `drop_fraction` and updates go on.
        stop_at: The fraction of the horizon after which the topology is frozen.
        ablation: Whether SRigL may remove whole neurons.
        ablation_threshold: A neuron with fewer salient weights is ablated. Below 1 a fraction of
            the constant fan-in, from 1 on a count (gamma_sal).
        dense: Roles (`input`, `output`) or name patterns (`"*.value_net.*"`) of layers that stay
            dense.
        dense_in_budget: Whether dense layers count towards `sparsity`, so that the others are
            sparser.
        initialisation: `scaled` multiplies each neuron's initial weights by sqrt(dense / own
            fan-in), so the variance that the layer was built with is kept (orthogonal and gains
            included); `kaiming` draws anew from N(0, 2 / own fan-in); `keep` only masks.
        optimizer_state: What becomes of moments at dropped and grown weights.
        seed: Seeds masks and random growth, apart from every other random stream.
    """

    method: str = "rigl"
    sparsity: float = 0.9
    distribution: str = "erk"
    growth: str | None = None
    drop: str = "magnitude"
    structure: str | None = None
    update_every: int = 100
    drop_fraction: float = 0.3
    decay: str = "cosine"
    horizon: int | None = None
    stop_at: float = 0.75
    ablation: bool = True
    ablation_threshold: float = 0.3
    dense: tuple[str, ...] = ()
    dense_in_budget: bool = False
    initialisation: str = "scaled"
    optimizer_state: str = "zero"
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("method", self.method, METHODS)
        one_of("distribution", self.distribution, DISTRIBUTIONS)
        one_of("drop", self.drop, DROP_RULES)
        one_of("decay", self.decay, DECAYS)
        one_of("initialisation", self.initialisation, INITIALISATIONS)
        one_of("optimizer_state", self.optimizer_state, OPTIMIZER_STATES)
        if self.structure is not None:
            one_of("structure", self.structure, STRUCTURES)
        within("sparsity", self.sparsity, 0, 1, open_right=True)
        within("drop_fraction", self.drop_fraction, 0, 1)
        within("stop_at", self.stop_at, 0, 1)
        at_least("update_every", self.update_every, 1)
        at_least("seed", self.seed, 0)
        if self.horizon is not None:
            at_least("horizon", self.horizon, 1)
        if not (math.isfinite(self.ablation_threshold) and self.ablation_threshold > 0):
            raise ValueError(
                f"ablation_threshold={self.ablation_threshold!r}: must be a positive number "
                "(below 1 a fraction of the fan-in, from 1 on a count)"
            )
        object.__setattr__(self, "dense", _patterns(self.dense))
        self._check_growth()
        self._check_structure()

    def _check_growth(self) -> None:
        if self.growth is None:
            return
        one_of("growth", self.growth, GROWTH_RULES)
        usable = METHODS[self.method].growth
        if usable and self.growth not in usable:
            raise ValueError(
                f"growth={self.growth!r}: method {self.method!r} can use {', '.join(usable)}"
            )
        if not usable:
            raise ValueError(
                f"growth={self.growth!r}: method {self.method!r} grows nothing, omit it"
            )

    def _check_structure(self) -> None:
        own = METHODS[self.method].structure
        if own != "unstructured" and self.structure not in (None, own):
            raise ValueError(f"structure={self.structure!r}: method {self.method!r} needs {own}")

    @property
    def density(self) -> float:
        """Fraction of the selected weights that is active."""
        return 0.0 if self.sparsity >= 1 else 1.0 - self.sparsity

    @property
    def growth_rule(self) -> str | None:
        """The growth rule in force: the configured one, else the method's own."""
        return self.growth or next(iter(METHODS[self.method].growth), None)

    @property
    def structure_in_force(self) -> str:
        """The structure in force: the configured one, else the method's own."""
        return self.structure or METHODS[self.method].structure

    def canonical(self) -> SparseConfig:
        """Return the equal configuration with all that plays no part in it at its default.

        Dense networks are all alike, static ones differ by nothing that concerns updates, and a
        value that spells out what the method does anyway is the same as None: runs that are the
        same experiment have the same hash.
        """
        if self.method == "dense":
            return SparseConfig(method="dense", sparsity=0.0)
        changes: dict[str, object] = {}
        method = METHODS[self.method]
        if method.updater is None:
            changes |= _defaults(MOVING_FIELDS)
        if self.growth is not None and self.growth == next(iter(method.growth), None):
            changes["growth"] = None
        if self.structure == method.structure:
            changes["structure"] = None
        if self.method != "srigl":
            changes |= _defaults(["ablation"])
        if self.method != "srigl" or not self.ablation:
            changes |= _defaults(["ablation_threshold"])
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def _patterns(value: object) -> tuple[str, ...]:
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, (tuple, list)) or not all(isinstance(p, str) for p in given):
        raise ValueError(f"dense={value!r}: must be roles or name patterns")
    return tuple(given)


def _defaults(names: Iterable[str]) -> dict[str, object]:
    fields = {field.name: field.default for field in dataclasses.fields(SparseConfig)}
    return {name: fields[name] for name in names}


def one_of(field: str, value: object, allowed: Iterable[object] | Mapping[object, object]) -> None:
    """Raise a ValueError that names field, value and choices unless value is one of them."""
    choices = list(allowed)
    if value not in choices:
        raise ValueError(f"{field}={value!r}: must be one of {', '.join(map(str, choices))}")


def within(field: str, value: float, low: float, high: float, *, open_right: bool = False) -> None:
    """Raise a ValueError that names field, value and range unless low <= value <= high."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high or (open_right and value == high):
        raise ValueError(
            f"{field}={value!r}: must be a number in [{low:g}, {high:g}{')' if open_right else ']'}"
        )


def at_least(field: str, value: int, low: int) -> None:
    """Raise a ValueError that names field, value and bound unless value is an integer >= low."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{field}={value!r}: must be an integer of at least {low}")
