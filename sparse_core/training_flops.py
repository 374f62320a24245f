"""Floating-point operations of a training step, by the formulas of RigL's appendix H.

A step is a forward pass, an error signal of the same cost and a weight gradient. With f_S and f_D
for the forward pass of the sparse and of the dense network (see `sparse_core.flops`):

    dense                              3 f_D
    static, set, mest, pruning         3 f_S
    rigl, srigl, granet                (3 f_S dT + 2 f_S + f_D) / (dT + 1)
    snfs, sr_ste, edge_popup, wsn      2 f_S + f_D
    topkast                            2 f_S + f_B
    gse                                (3 f_S dT + 3 f_S + s f_S) / (dT + 1)

The dense gradient is what RigL pays once in dT + 1 iterations and SNFS always. SR-STE's straight-
through gradient is dense too; Top-KAST's covers the weights of its backward mask (f_B); guided
stochastic exploration looks at s sampled positions for each active weight. Scores (edge-popup, WSN)
need the dense gradient at every step. The formulas of SR-STE, Top-KAST, GSE and of scores are not
the appendix's, they follow from the same account.

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


@dataclass(frozen=True)
class Cost:
    """What a method's formula may depend on.

    Attributes:
        sparse: f_S, operations of a forward pass with the active weights.
        dense: f_D, operations of a forward pass with all weights.
        update_every: dT, optimizer steps between two updates of the topology.
        gradient_steps: Steps before an update of which the dense gradient is taken.
        backward: f_B, operations of a forward pass with the weights of the backward mask.
        samples: Positions whose gradient is sampled at an update, for each active weight.
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


def _dense(cost: Cost) -> float:
    return 3 * cost.dense


def _sparse(cost: Cost) -> float:
    return 3 * cost.sparse


def _dense_gradient_at_updates(cost: Cost) -> float:
    period = cost.update_every + 1
    extra = cost.gradient_steps * (cost.dense - cost.sparse)
    return (3 * cost.sparse * period + extra) / period


def _dense_gradient_always(cost: Cost) -> float:
    return 2 * cost.sparse + cost.dense


def _backward_mask(cost: Cost) -> float:
    if cost.backward is None:
        raise InputError(
            "backward=None: method 'topkast' needs the cost of its backward mask", field="backward"
        )
    return 2 * cost.sparse + cost.backward


def _sampled_gradient_at_updates(cost: Cost) -> float:
    return cost.sparse * (3 + cost.samples / (cost.update_every + 1))


FORMULAS: dict[str, Callable[[Cost], float]] = {
    "dense": _dense,
    "static": _sparse,
    "set": _sparse,
    "mest": _sparse,
    "gmp": _sparse,
    "one_shot": _sparse,
    "rigl": _dense_gradient_at_updates,
    "rigl_itop": _dense_gradient_at_updates,
    "srigl": _dense_gradient_at_updates,
    "granet": _dense_gradient_at_updates,
    "snfs": _dense_gradient_always,
    "sr_ste": _dense_gradient_always,
    "edge_popup": _dense_gradient_always,
    "wsn": _dense_gradient_always,
    "topkast": _backward_mask,
    "gse": _sampled_gradient_at_updates,
}
"""The table of methods."""


def training_flops(method: str, cost: Cost) -> float:
    """Return the mean operations of a training step on one sample.

    Args:
        method: A key of `FORMULAS`.
        cost: What forward passes cost.

    Raises:
        ValueError: If the method is unknown or needs a field that is missing.
    """
    one_of("method", method, FORMULAS)
    return FORMULAS[method](cost)


def scheduled_training_flops(method: str, cost_at: Callable[[int], Cost], steps: int) -> float:
    """Return the mean over the steps of a training whose density changes.

    For pruning this is the appendix's E_t[3 f_D (1 - s_t)] where cost is in proportion to density.
    A lottery ticket's training is one such course, through all its rounds.

    Args:
        method: A key of `FORMULAS`.
        cost_at: What forward passes cost at optimizer step t, from 0.
        steps: Length of the training.

    Raises:
        ValueError: As `training_flops`, or if there are no steps.
    """
    at_least("steps", steps, 1)
    return sum(training_flops(method, cost_at(step)) for step in range(steps)) / steps
