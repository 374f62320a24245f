"""Drop scores and grow scores: one small function each, listed in `sparse_core.registry`.

A score function maps a `Scene` to a `(rows, cols)` tensor. The weights with the lowest drop scores
are dropped; the candidates with the highest grow scores are grown.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparse_core.checks import InputError
from sparse_core.rules import drop_rule, growth_rule
from sparse_core.updaters.scene import Scene


@drop_rule(by_weights=True)
def magnitude(scene: Scene) -> Tensor:
    """|w|, the weight's magnitude."""
    return scene.weight.abs()


@drop_rule(by_weights=True)
def signed(scene: Scene) -> Tensor:
    """Drop equal fractions of the smallest positive and the largest negative weights.

    SET as first published (Mocanu et al. 2018, Alg. 1). The score is the rank of |w| among the
    active weights of the same sign, divided by their number. Zeros count as positive.
    """
    weight, scores = scene.weight, torch.zeros_like(scene.weight, dtype=torch.float64)
    for side in (scene.active & (weight >= 0), scene.active & (weight < 0)):
        order = weight[side].abs().argsort(stable=True)
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(len(order), device=order.device)
        scores[side] = (ranks.double() + 0.5) / max(1, len(order))
    return scores.masked_fill(~weight.isfinite(), float("nan"))


@drop_rule(needs="active_gradient")
def sensitivity(scene: Scene) -> Tensor:
    """|w dL/dw|: how much the loss would change, to first order (SNIP, Lee et al. 2019)."""
    return (scene.weight * scene.gradient).abs()


@drop_rule(needs="active_gradient")
def magnitude_gradient(scene: Scene) -> Tensor:
    """|w| + 0.01 |dL/dw|, MEST's importance (Yuan et al. 2021, section 3.2)."""
    return scene.weight.abs() + 0.01 * scene.gradient.abs()


@growth_rule(by_rows=True, uniform=True)
def random(scene: Scene) -> Tensor:
    """Uniform random (SET, Mocanu et al. 2018)."""
    return scene.random("growth")


@growth_rule(by_rows=True)
def unfired(scene: Scene) -> Tensor:
    """Uniform random, weights that have never been active first (ITOP, Liu et al. 2021)."""
    if scene.seen is None:
        raise InputError(
            f"layer {scene.tensor.name!r}: has too many weights to remember which were ever "
            "active; use growth='random'",
            field="growth",
        )
    return scene.random("growth") + (~scene.seen).double()


@growth_rule(needs="gradient", by_rows=True)
def gradient(scene: Scene) -> Tensor:
    """|dL/dw| of the dense gradient (RigL, Evci et al. 2020)."""
    return scene.gradient.abs()


@growth_rule(needs="momentum", by_rows=True)
def momentum(scene: Scene) -> Tensor:
    """|m|, the running mean of the dense gradient (SNFS, Dettmers and Zettlemoyer 2019)."""
    return scene.gradient.abs()


@growth_rule(needs="momentum", by_rows=True)
def adam_momentum(scene: Scene) -> Tensor:
    """|m| / sqrt(v), the step that Adam would make, up to the learning rate."""
    return scene.gradient.abs() / (scene.gradient_square.sqrt() + 1e-12)


@growth_rule(needs="active_gradient")
def importance(scene: Scene) -> Tensor:
    """Importance of the neuron times that of its input (SpaceNet, Sokar et al. 2021, section 3).

    The importance of either is the sum of |w dL/dw| over its active weights in this layer.
    """
    weights = sensitivity(scene) * scene.active
    return weights.sum(1, keepdim=True) * weights.sum(0, keepdim=True)
