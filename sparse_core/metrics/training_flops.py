"""Floating-point operations of a training step, by the account of RigL's appendix H.

A step is a forward pass, an error signal of the same cost and a weight gradient. With f_S and f_D
for the forward pass of the sparse and of the dense network (see `sparse_core.metrics.flops`), f_B
for one with the weights that receive a gradient at every step, and an update every dT steps,
training costs by what growth looks at of the gradient:

    nothing, active_gradient    2 f_S + f_B
    gradient, signals           2 f_S + f_B + n (f_D - f_B) / (dT + 1)
    momentum                    2 f_S + f_D
    sample                      2 f_S + f_B + n s f_S / (dT + 1)

The dense gradient is what RigL pays in n of dT + 1 iterations (n = 1 unless a mean over several is
taken) and SNFS always. Guided stochastic exploration looks at s sampled positions for each active
weight. Drop rules look at active weights, whose gradient is there anyway. f_B is f_S, but for
methods that train inactive weights too: Top-KAST's has a backward mask; SR-STE's straight-through
gradient and that of scores (edge-popup, WSN) are dense. A dense network has f_S = f_D. The formulas
of Top-KAST, SR-STE, scores and samples are not the appendix's, they follow from the same account.

Ranking and drawing weights, the optimizer, the loss and normalisation are ignored, as there. A
network whose density changes (gradual pruning, GraNet, MEST's elastic budget) costs the mean of its
steps: `scheduled_training_flops`. RigL's dT + 1 takes an update for an iteration of its own; here
one of the dT steps sees the dense gradient, which changes the mean by less than f_D / dT^2.

References:
    RigL: Evci et al. 2020, appendix H. SNFS: Dettmers and Zettlemoyer 2019. Top-KAST: Jayakumar et
    al. 2020. SR-STE: Zhou et al. 2021. GSE: Heddes et al. 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sparse_core.checks import InputError, at_least, one_of
from sparse_core.config import SparseConfig
from sparse_core.naming import growth_rule_named
from sparse_core.rules import growth_of


@dataclass(frozen=True)
class Cost:
    """What a formula may depend on.

    Attributes:
        sparse: f_S, operations of a forward pass with the active weights.
        dense: f_D, operations of a forward pass with all weights.
        update_every: dT, optimizer steps between two updates of the topology.
        gradient_steps: n, steps before an update whose gradient growth looks at.
        backward: f_B, operations of a forward pass with the weights that are trained; None: f_S.
        samples: s, positions whose gradient is sampled, for each active weight.
    """

    sparse: float
    dense: float
    update_every: int = 100
    gradient_steps: int = 1
    backward: float | None = None
    samples: float = 1.0

    def __post_init__(self) -> None:
        at_least("update_every", self.update_every, 1)
        at_least("gradient_steps", self.gradient_steps, 1)
        if self.gradient_steps > self.update_every:
            raise InputError(
                f"gradient_steps={self.gradient_steps}: must be at most update_every="
                f"{self.update_every}",
                field="gradient_steps",
            )
        if not 0 <= self.sparse <= self.dense:
            raise InputError(
                f"sparse={self.sparse!r}: must be between 0 and dense={self.dense!r}",
                field="sparse",
            )
        if self.backward is not None and not self.sparse <= self.backward <= self.dense:
            raise InputError(
                f"backward={self.backward!r}: must be between sparse={self.sparse!r} and "
                f"dense={self.dense!r}",
                field="backward",
            )
        if self.samples < 0:
            raise InputError(f"samples={self.samples!r}: must be at least 0", field="samples")

    @property
    def plain(self) -> float:
        """Operations of a step on which growth looks at nothing."""
        return 2 * self.sparse + (self.sparse if self.backward is None else self.backward)

    @property
    def all_seen(self) -> float:
        """Operations of a step on which it looks at the dense gradient."""
        return 2 * self.sparse + self.dense

    @property
    def looking(self) -> float:
        """Fraction of the iterations that growth looks at, an update being one."""
        return self.gradient_steps / (self.update_every + 1)


def _nothing(cost: Cost) -> float:
    return cost.plain


def _gradient(cost: Cost) -> float:
    return cost.plain + cost.looking * (cost.all_seen - cost.plain)


def _momentum(cost: Cost) -> float:
    return cost.all_seen


def _sample(cost: Cost) -> float:
    return cost.plain + cost.looking * cost.samples * cost.sparse


FORMULAS: dict[str, Callable[[Cost], float]] = {
    "nothing": _nothing,
    "active_gradient": _nothing,
    "gradient": _gradient,
    "signals": _gradient,
    "momentum": _momentum,
    "sample": _sample,
}
"""What growth looks at -> the mean operations of a step."""


def seen_by(config: SparseConfig) -> str:
    """Return what growth sees of the gradient, a key of `FORMULAS`.

    It is what the method says its training costs; if it says nothing, what the growth rule needs,
    or `sample` if that needs a sample only.
    """
    if config.facts.cost is not None:
        return config.facts.cost
    if config.growth_rule is None:
        return "nothing"
    rule = growth_of(growth_rule_named(config.growth_rule))
    assert rule is not None
    return "sample" if rule.samples or rule.places is not None else rule.needs


def training_flops(seen: str, cost: Cost) -> float:
    """Return the mean operations of a training step on one sample.

    Args:
        seen: What growth looks at, see `seen_by`.
        cost: What forward passes cost.

    Raises:
        ValueError: If there is no such formula.
    """
    one_of("seen", seen, FORMULAS)
    return FORMULAS[seen](cost)


def scheduled_training_flops(seen: str, cost_at: Callable[[int], Cost], steps: int) -> float:
    """Return the mean over the steps of a training whose density changes.

    For pruning this is the appendix's E_t[3 f_D (1 - s_t)] where cost is in proportion to density.
    A lottery ticket's training is one such course, through all its rounds.

    Args:
        seen: What growth looks at, see `seen_by`.
        cost_at: What forward passes cost at optimizer step t, from 0.
        steps: Length of the training.

    Raises:
        ValueError: As `training_flops`, or if there are no steps.
    """
    at_least("steps", steps, 1)
    return sum(training_flops(seen, cost_at(step)) for step in range(steps)) / steps
