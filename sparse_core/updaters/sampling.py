"""Guided stochastic exploration: grow scores that look at a sample of the dense gradient only.

A sample S of as many positions as there are active weights is drawn, with replacement, from a
product distribution over outputs and inputs, p(i, j) ~ f(i) h(j); the score is |dL/dw| in S and
-inf elsewhere (Heddes et al. 2024, "Always-Sparse Training by Growing Connections with Guided
Stochastic Exploration").

    uniform     f = h = 1
    grabo       f(i) = sum_b |delta_bi|,          h(j) = sum_b |a_bj|
    graest      f(i) = |sum_b s_b delta_bi|,      h(j) = |sum_b s_b a_bj|,    s_b = +-1 at random

a are the layer's inputs, delta the gradients of its outputs, b runs over the batch. In expectation
over the signs the product of graest's two sums is the gradient itself (an AMS sketch).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sparse_core.budgets.ranking import MINUS_INFINITY
from sparse_core.rules import growth_rule
from sparse_core.updaters.scene import Scene


@growth_rule(needs="gradient", samples=True)
def uniform(scene: Scene) -> Tensor:
    """|dL/dw| in a uniform sample."""
    rows, cols = scene.active.shape
    return _scores_in_sample(scene, torch.ones(rows), torch.ones(cols))


@growth_rule(needs="signals", samples=True)
def grabo(scene: Scene) -> Tensor:
    """|dL/dw| in a sample guided by the bound on the gradient's magnitude."""
    return _guided(scene, lambda values, _: values.abs().sum(0))


@growth_rule(needs="signals", samples=True)
def graest(scene: Scene) -> Tensor:
    """|dL/dw| in a sample guided by a random-sign sketch of the gradient."""
    return _guided(scene, lambda values, signs: (signs.unsqueeze(1) * values).sum(0).abs())


def _guided(scene: Scene, reduce: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    inputs, outputs = scene.inputs, scene.outputs
    generator = scene.generator("sketch")
    signs = torch.randint(0, 2, (len(inputs),), generator=generator).mul(2).sub(1).to(inputs)
    return _scores_in_sample(scene, reduce(outputs, signs), reduce(inputs, signs))


def _scores_in_sample(scene: Scene, over_rows: Tensor, over_cols: Tensor) -> Tensor:
    generator = scene.generator("sample")
    count = max(1, int(scene.active.sum()))
    i = _draw(over_rows, count, generator)
    j = _draw(over_cols, count, generator)
    sampled = torch.zeros(scene.active.shape, dtype=torch.bool)
    sampled[i, j] = True
    return scene.gradient.abs().masked_fill(~sampled.to(scene.active.device), MINUS_INFINITY)


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    weights = weights.detach().double().cpu()
    if not bool(weights.sum() > 0):
        weights = torch.ones_like(weights)
    below = weights.cumsum(0)
    draws = torch.rand(count, generator=generator, dtype=torch.float64) * below[-1]
    return torch.searchsorted(below, draws, right=True).clamp(max=len(weights) - 1)
