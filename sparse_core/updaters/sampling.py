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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.layers.compact import CompactInput
from sparse_core.rules import growth_rule
from sparse_core.updaters.places import View, spread
from sparse_core.updaters.scene import Scene

Cells = NDArray[np.int64]


def anywhere(view: View) -> Cells:
    """Name a uniform sample of the cells."""
    return _sample(view, torch.ones(view.lanes.stop - view.lanes.start), torch.ones(view.width))


def by_bound(view: View) -> Cells:
    """Name a sample guided by the bound on the gradient's magnitude."""
    return _guided(view, lambda values, _: values.abs().sum(0))


def by_sketch(view: View) -> Cells:
    """Name a sample guided by a random-sign sketch of the gradient."""
    return _guided(view, lambda values, signs: (signs.unsqueeze(1) * values).sum(0).abs())


@growth_rule(needs="gradient", samples=True, places=anywhere)
def uniform(scene: Scene) -> Tensor:
    """|dL/dw| in a uniform sample."""
    return spread(scene, anywhere(View.of(scene)))


@growth_rule(needs="signals", samples=True, places=by_bound)
def grabo(scene: Scene) -> Tensor:
    """|dL/dw| in a sample guided by the bound on the gradient's magnitude."""
    return spread(scene, by_bound(View.of(scene)))


@growth_rule(needs="signals", samples=True, places=by_sketch)
def graest(scene: Scene) -> Tensor:
    """|dL/dw| in a sample guided by a random-sign sketch of the gradient."""
    return spread(scene, by_sketch(View.of(scene)))


def _guided(view: View, reduce: Callable[[Tensor, Tensor], Tensor]) -> Cells:
    signals, group = view.signals(), view.group
    outputs = torch.cat([dy.reshape(-1, dy.shape[-1])[:, view.rows] for _, dy, _ in signals])
    generator = view.generator("sketch")
    signs = torch.randint(0, 2, (len(outputs),), generator=generator).mul(2).sub(1).to(outputs)
    over_rows = reduce(outputs, signs)
    if group > 1:
        over_rows = torch.nn.functional.pad(over_rows, (0, -len(over_rows) % group))
        over_rows = over_rows.reshape(-1, group).sum(1)
    return _sample(view, over_rows, _over_inputs([x for x, _, _ in signals], signs, reduce))


def _over_inputs(
    inputs: list[Tensor | CompactInput],
    signs: Tensor,
    reduce: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    if len(inputs) == 1 and isinstance(inputs[0], CompactInput):
        found = reduce(inputs[0].numbers, signs)
        return found.new_zeros(inputs[0].width).index_put((inputs[0].columns,), found)
    dense = [x.dense() if isinstance(x, CompactInput) else x for x in inputs]
    return reduce(torch.cat([x.reshape(-1, x.shape[-1]) for x in dense]), signs)


def _sample(view: View, over_lanes: Tensor, over_columns: Tensor) -> Cells:
    generator = view.generator("sample")
    count = max(1, view.active)
    i = _draw(over_lanes, count, generator) + view.lanes.start
    j = _draw(over_columns, count, generator)
    return np.unique((i * view.width + j).numpy())


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    weights = weights.detach().double().cpu()
    if not bool(weights.sum() > 0):
        weights = torch.ones_like(weights)
    below = weights.cumsum(0)
    draws = torch.rand(count, generator=generator, dtype=torch.float64) * below[-1]
    return torch.searchsorted(below, draws, right=True).clamp(max=len(weights) - 1)
