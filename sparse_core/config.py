"""`SparseConfig`: everything that can be said about the sparsity of a network, in one place.

This module imports no torch, so that a sweep's driver can read and check a configuration at no
cost. What a method is, is said by its entry in `sparse_core.registry`; no method is named here.
Methods, rules and distributions of one's own are `package.module:NAME`: they are imported to be
checked, with whatever their module imports.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sparse_core.checks import InputError, at_least, one_of, positive, within
from sparse_core.in_force import InForce
from sparse_core.naming import check_distribution, check_drop, check_growth, method_named, own_name
from sparse_core.registry import (
    DENSE_METHOD,
    DISTRIBUTIONS,
    DROP_RULES,
    GROWTH_RULES,
    METHODS,
    ROLES,
    owned_fields,
)
from sparse_core.structure_names import family_of, parse_pattern, with_examples

DENSITY_CURVES = ("cubic", "linear", "sigmoid", "annealed")
DECAYS = ("cosine", "linear", "constant", "inverse_power")
INITIALISATIONS = ("scaled", "kaiming", "keep")
OPTIMIZER_STATES = ("zero", "keep", "freeze", "layer_mean")
SCOPES = ("layer", "global")
BACKENDS = ("masked", "condensed", "auto")

DEFAULT_SPARSITY = 0.9

MOVING_FIELDS = (
    "growth",
    "drop",
    "update_every",
    "drop_fraction",
    "decay",
    "horizon",
    "stop_at",
    "optimizer_state",
    "gradient_steps",
    "skip_step",
)
"""The fields that concern updates only."""


@dataclass(frozen=True)
class SparseConfig(InForce):
    """How sparse a network is, and how its topology moves.

    Attributes:
        method: One of `sparse_core.registry.METHODS`, or `package.module:NAME` of a `Method`.
            `dense` leaves the network alone, `static` never moves the topology.
        sparsity: Fraction of the selected weights that is inactive, in [0, 1).
            With `fan_in` it plays no part and is left at its default.
        fan_in: Active weights of each neuron, in every layer, instead of a sparsity: a count, which
            says at once what a layer of a million inputs has. The structure is constant fan-in, and
            `distribution` and `min_fan_in` play no part. None: `sparsity` counts.
        distribution: How the budget is shared among layers: one of
            `sparse_core.registry.DISTRIBUTIONS`, or `package.module:NAME` of a function such as
            those in `sparse_core.budgets.densities`.
        layer_sparsity: Name pattern or role -> a sparsity of its own, outside the shared budget.
        growth: Which inactive weights are grown; None is the method's own rule. One of
            `sparse_core.registry.GROWTH_RULES`, or `package.module:NAME` of a function with
            `sparse_core.rules.growth_rule`.
        drop: Which active weights are dropped; None is the method's own rule. One of
            `sparse_core.registry.DROP_RULES`, or `package.module:NAME` of a function with
            `sparse_core.rules.drop_rule`.
        structure: `unstructured`, `constant_fan_in`, `neurons`, N:M such as `2:4`, blocks such as
            `4x4` (a layer that they do not divide is less than a block short of its budget); None
            is the method's own.
        group: So many consecutive neurons share their input columns (constant fan-in only).
        min_fan_in: With constant fan-in each neuron of an input layer reads at least so many
            inputs, all where there are fewer. Hidden layers of more inputs pay for it, each with
            at most half of what it would have, so that the total stays; what exceeds that is not
            met.
        update_every: Optimizer steps between two updates of the topology (Delta T).
        drop_fraction: Fraction of a layer's active weights that the first update moves (alpha).
        decay: How that fraction falls until `stop_at * horizon`, one of `DECAYS`.
        horizon: Training length in optimizer steps. None: told later with `Engine.set_horizon`;
            until then the fraction stays at `drop_fraction` and updates go on.
        stop_at: The fraction of the horizon after which the topology is frozen.
        scope: Whether weights are ranked within their `layer` or over all layers, `global` (GSE,
            GMP, one-shot and GraNet).
        gradient_steps: The growth gradient is the mean over so many steps before an update.
        skip_step: Leave out the optimizer's step on which the topology is updated (RigL, Alg. 1;
            RLx2).
        ablation: Whether SRigL may remove whole neurons.
        ablation_threshold: A neuron with fewer salient weights is ablated. Below 1 a fraction of
            the constant fan-in, from 1 on a count (gamma_sal).
        ablation_sticky: Whether an ablated neuron can never come back.
        never_ablate: Roles, of `ROLES`, whose neurons are never ablated, nor removed by structure
            `neurons`.
        initial_sparsity: The sparsity at the beginning, from which it goes to `sparsity` until
            `stop_at`, down or up (GMP, GraNet and one-shot pruning: up only; NE: down only). None:
            dense for methods that prune, half as dense as in the end for NE, `sparsity` for the
            others.
        prune_from: The fraction of the horizon at which the sparsity begins to move.
        density_curve: How it moves, one of `DENSITY_CURVES` (`sparse_core.schedule`).
        rounds: How often a lottery ticket is pruned; it is trained once more than that.
        rewind_step: After so many optimizer steps of the first round weights are what a lottery
            ticket's are rewound to; 0: the initial ones.
        backward_sparsity: Top-KAST's sparsity of the weights that receive gradients; None is
            halfway between dense and `sparsity`.
        penalty: Top-KAST's and SR-STE's decay of weights outside the forward mask.
        slack: MEST's soft memory bound: so much of the budget more is held between updates.
        reset_dormant_every: Dormant neurons start anew every so many optimizer steps
            (ReDo, see `sparse_core.weights.dormant`); None: never.
        dormant_threshold: A neuron is dormant if its mean activity is at most this part of its
            layer's mean (tau).
        dense: Roles (`input`, `output`) or name patterns (`"*.value_net.*"`) of layers that stay
            dense.
        embeddings: Whether `nn.Embedding` weights become sparse too, role `input`; see
            `sparse_core.layers.embedding` for what rows and constant fan-in mean there.
        dense_in_budget: Whether dense layers count towards `sparsity`, so that the others are
            sparser.
        receptive_field: First masks in which neighbouring neurons read neighbouring inputs (BRF,
            see `sparse_core.budgets.receptive_fields`): r in [0, 1], from 0, the nearest inputs, to
            1, any. None: uniformly random masks.
        initialisation: `scaled` multiplies each neuron's initial weights by
            sqrt(dense / own fan-in), so the variance that the layer was built with is kept
            (orthogonal and gains included); `kaiming` draws anew from N(0, 2 / own fan-in); `keep`
            only masks.
        optimizer_state: What becomes of moments at dropped and grown weights, one of
            `OPTIMIZER_STATES`.
        backend: `masked` computes with dense weights times a mask; `condensed` stores and trains
            the active weights of linear layers and embeddings only, on the CPU or, with Triton, on
            a GPU; `auto` is condensed for the linear layers and embeddings where that is at least
            as fast (`sparse_core.layers.choice`), masked for the others.
        seed: Seeds masks and random growth, apart from every other random stream.
    """

    method: str = "rigl"
    sparsity: float = DEFAULT_SPARSITY
    fan_in: int | None = None
    distribution: str = "erk"
    layer_sparsity: tuple[tuple[str, float], ...] = ()
    growth: str | None = None
    drop: str | None = None
    structure: str | None = None
    group: int = 1
    min_fan_in: int = 8
    update_every: int = 100
    drop_fraction: float = 0.3
    decay: str = "cosine"
    horizon: int | None = None
    stop_at: float = 0.75
    scope: str = "layer"
    gradient_steps: int = 1
    skip_step: bool = False
    ablation: bool = True
    ablation_threshold: float = 0.3
    ablation_sticky: bool = False
    never_ablate: tuple[str, ...] = ("output",)
    initial_sparsity: float | None = None
    prune_from: float = 0.0
    density_curve: str = "cubic"
    rounds: int = 4
    rewind_step: int = 0
    backward_sparsity: float | None = None
    penalty: float = 2e-4
    slack: float = 0.0
    reset_dormant_every: int | None = None
    dormant_threshold: float = 0.025
    dense: tuple[str, ...] = ()
    embeddings: bool = False
    dense_in_budget: bool = False
    receptive_field: float | None = None
    initialisation: str = "scaled"
    optimizer_state: str = "zero"
    backend: str = "masked"
    seed: int = 0

    def __post_init__(self) -> None:
        method = method_named(self.method)
        check_distribution(self.distribution)
        one_of("decay", self.decay, DECAYS)
        one_of("scope", self.scope, SCOPES)
        one_of("density_curve", self.density_curve, DENSITY_CURVES)
        one_of("initialisation", self.initialisation, INITIALISATIONS)
        one_of("optimizer_state", self.optimizer_state, OPTIMIZER_STATES)
        one_of("backend", self.backend, BACKENDS)
        if self.drop is not None:
            check_drop(self.drop)
        within("sparsity", self.sparsity, 0, 1, open_right=True)
        if self.initial_sparsity is not None:
            within("initial_sparsity", self.initial_sparsity, 0, 1, open_right=True)
        if self.backward_sparsity is not None:
            within("backward_sparsity", self.backward_sparsity, 0, self.sparsity)
        if self.receptive_field is not None:
            within("receptive_field", self.receptive_field, 0, 1)
        for name in ("drop_fraction", "stop_at", "prune_from", "penalty", "slack"):
            within(name, getattr(self, name), 0, 1)
        at_least("rewind_step", self.rewind_step, 0)
        for name in ("update_every", "group", "min_fan_in", "gradient_steps", "rounds"):
            at_least(name, getattr(self, name), 1)
        at_least("seed", self.seed, 0)
        for name in ("horizon", "reset_dormant_every"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)
        within("dormant_threshold", self.dormant_threshold, 0, 1)
        positive("ablation_threshold", self.ablation_threshold)
        if method.starts_dense and self.first_sparsity > self.sparsity:
            raise InputError(
                f"initial_sparsity={self.initial_sparsity}: must be at most sparsity="
                f"{self.sparsity}",
                field="initial_sparsity",
            )
        if method.expands and self.first_sparsity < self.sparsity:
            raise InputError(
                f"initial_sparsity={self.initial_sparsity}: must be at least sparsity="
                f"{self.sparsity}, method {self.method!r} grows",
                field="initial_sparsity",
            )
        if self.gradient_steps > self.update_every:
            raise InputError(
                f"gradient_steps={self.gradient_steps}: must be at most update_every="
                f"{self.update_every}",
                field="gradient_steps",
            )
        object.__setattr__(self, "dense", _patterns("dense", self.dense))
        object.__setattr__(self, "never_ablate", _patterns("never_ablate", self.never_ablate))
        object.__setattr__(self, "layer_sparsity", _pairs(self.layer_sparsity))
        for role in self.never_ablate:
            one_of("never_ablate", role, ROLES)
        if self.growth is not None:
            check_growth(self.growth, self.method)
        self._check_fan_in()
        self._check_structure()
        self._check_backend()

    def _check_fan_in(self) -> None:
        if self.fan_in is None:
            return
        at_least("fan_in", self.fan_in, 1)
        if self.sparsity != DEFAULT_SPARSITY:
            raise InputError(
                f"fan_in={self.fan_in}: sparsity={self.sparsity} says the same in another way, "
                "give one of them",
                field="fan_in",
            )
        structure = self.structure_in_force
        if self.facts.sparse and structure != "constant_fan_in":
            raise InputError(
                f"fan_in={self.fan_in}: needs structure constant_fan_in, not {structure}",
                field="fan_in",
            )
        if self.density_moves or self.dense_in_budget:
            why = "dense_in_budget" if self.dense_in_budget else f"method {self.method!r}"
            raise InputError(f"fan_in={self.fan_in}: {why} needs a sparsity", field="fan_in")

    def _check_backend(self) -> None:
        if self.backend == "condensed" and self.needs_masks is not None:
            raise InputError(f"backend={self.backend!r}: {self.needs_masks}", field="backend")

    def _check_structure(self) -> None:
        structure = self.structure_in_force
        family, pattern, method = family_of(structure), parse_pattern(structure), self.facts
        if self.embeddings and structure == "neurons":
            raise InputError(
                "embeddings=True: structure 'neurons' would take whole tokens, use another",
                field="embeddings",
            )
        if self.embeddings and self.receptive_field is not None:
            raise InputError(
                f"receptive_field={self.receptive_field}: tokens of embeddings have no places, use "
                "None",
                field="receptive_field",
            )
        if family not in method.structures:
            moving = f", it moves weights {method.moves}" if method.moves != "within lanes" else ""
            raise InputError(
                f"structure={structure!r}: method {self.method!r} needs "
                f"{with_examples(method.structures)}{moving}",
                field="structure",
            )
        if self.group > 1 and structure != "constant_fan_in":
            raise InputError(f"group={self.group}: needs structure constant_fan_in", field="group")
        if self.scope == "global" and not method.global_scope:
            able = ", ".join(name for name, known in METHODS.items() if known.global_scope)
            raise InputError(
                f"scope='global': method {self.method!r} cannot, these can: {able}", field="scope"
            )
        if self.scope == "global" and structure != "unstructured":
            raise InputError(
                f"scope='global': needs structure unstructured, not {structure}", field="scope"
            )
        if pattern is not None and family == "N:M" and method.sparse:
            n, m = pattern[1:]
            if n > m:
                raise InputError(f"structure={structure!r}: N must not exceed M", field="structure")
            if self.layer_sparsity:
                raise InputError(
                    f"layer_sparsity={self.layer_sparsity}: structure {structure} leaves no choice",
                    field="layer_sparsity",
                )
            if self.density_moves:
                raise InputError(
                    f"structure={structure!r}: method {self.method!r} starts at sparsity "
                    f"{self.first_sparsity}, and an N:M pattern has one only",
                    field="structure",
                )
            if abs(self.sparsity - (1 - n / m)) > 1e-9:
                raise InputError(
                    f"sparsity={self.sparsity}: structure {structure} means {1 - n / m:g}",
                    field="sparsity",
                )

    def canonical(self) -> SparseConfig:
        """Return the equal configuration with all that plays no part in it at its default.

        Dense networks are all alike, static ones differ by nothing that concerns updates, and a
        value that spells out what the method does anyway is the same as None: runs that are the
        same experiment have the same hash.
        """
        method = self.facts
        if not method.sparse:
            return self.as_dense()
        changes: dict[str, object] = {
            "growth": own_name(self.growth, GROWTH_RULES) if self.growth else None,
            "drop": own_name(self.drop, DROP_RULES) if self.drop and method.drop else None,
            "distribution": own_name(self.distribution, DISTRIBUTIONS),
        }
        if method.updater is None:
            changes |= _defaults(MOVING_FIELDS)
        if changes["growth"] == next(iter(method.growth), None):
            changes["growth"] = None
        if changes["drop"] == method.drop:
            changes["drop"] = None
        if self.structure == (method.structure if self.fan_in is None else "constant_fan_in"):
            changes["structure"] = None
        if self.fan_in is not None:
            changes |= _defaults(["distribution", "min_fan_in"])
        changes |= _defaults(field for field in owned_fields() if field not in method.fields)
        if not self.ablates:
            changes |= _defaults(["ablation_threshold", "ablation_sticky"])
            if self.structure_in_force != "neurons":
                changes |= _defaults(["never_ablate"])
        if self.structure_in_force != "constant_fan_in":
            changes |= _defaults(["min_fan_in"])
        if method.every_step:
            changes |= _defaults(["update_every"])
        if self.reset_dormant_every is None and "dormant_threshold" not in method.fields:
            changes |= _defaults(["dormant_threshold"])
        if not self.density_moves:
            changes |= _defaults(["prune_from", "density_curve"])
        elif method.starts_dense and not self.initial_sparsity:
            changes |= _defaults(["initial_sparsity"])
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def as_dense(self, seed: int = 0) -> SparseConfig:
        """Return the configuration of a dense network, whose dormant neurons are treated alike."""
        dense = SparseConfig(method=DENSE_METHOD, sparsity=0.0, seed=seed)
        if self.reset_dormant_every is None:
            return dense
        return dataclasses.replace(
            dense,
            reset_dormant_every=self.reset_dormant_every,
            dormant_threshold=self.dormant_threshold,
        )


def _patterns(field: str, value: object) -> tuple[str, ...]:
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, (tuple, list)) or not all(isinstance(p, str) for p in given):
        raise InputError(
            f"{field}={value!r}: must be a list of roles or name patterns", field=field
        )
    return tuple(given)


def _pairs(value: object) -> tuple[tuple[str, float], ...]:
    items = value.items() if isinstance(value, Mapping) else value
    if not isinstance(items, Iterable):
        raise InputError(
            f"layer_sparsity={value!r}: must map name patterns to sparsities",
            field="layer_sparsity",
        )
    pairs = tuple((str(pattern), sparsity) for pattern, sparsity in items)
    for pattern, sparsity in pairs:
        within(f"layer_sparsity[{pattern!r}]", sparsity, 0, 1, open_right=True)
    return pairs


def _defaults(names: Iterable[str]) -> dict[str, object]:
    fields = {field.name: field.default for field in dataclasses.fields(SparseConfig)}
    return {name: fields[name] for name in names}
