"""SRigL's neuron ablation (Lasby et al. 2024, section 3): remove neurons of few salient weights.

A position is salient if it is one of the n_keep active weights of largest magnitude in its layer,
or one of the n_prune inactive positions of largest gradient magnitude. A neuron with fewer salient
positions than the threshold is ablated; its weights go to the other neurons.

Deviations from the published code:

- It ranks gradients over all positions, active ones included; here, as in the paper's text, only
  inactive positions are candidates.
- It drops active weights that happen to be zero, by lowering n_keep to the number of the others;
  here they rank last, and the mask alone says what is active.
- It rounds gamma k down, so that with gamma = 0.3 a neuron of less than 7 inputs goes only when
  none of them is salient; here a neuron goes if it has fewer than gamma k, not rounded.
- Its guard keeps one neuron more than a dense fan-in needs where that divides the budget.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROUNDING = 1e-9
"""More than what a product of the two can be off."""


def threshold(gamma: float, fan_in: float) -> int:
    """Return the least number of salient weights of a neuron that stays.

    Args:
        gamma: From 1 on an absolute count, below 1 a fraction of `fan_in`.
        fan_in: The fan-in without ablation, budget / rows.
    """
    return int(gamma) if gamma >= 1 else max(1, math.ceil(gamma * fan_in - ROUNDING))


def least_lanes(budget: int, rows: int, cols: int, group: int) -> int:
    """Return how many groups must stay, so that k' = budget // live neurons is at most `cols`.

    The last group may be smaller; it is counted as if it were among those that stay.
    """
    neurons = -(-budget // cols)
    smallest = rows - group * (-(-rows // group) - 1)
    return 1 + max(0, -(-(neurons - smallest) // group))


def live_lanes(counts: Tensor, least_count: int, least: int, gone: Tensor | None = None) -> Tensor:
    """Choose the lanes that stay.

    Args:
        counts: `(lanes,)` int64, their salient positions.
        least_count: The ablation threshold. It is lowered where it would leave too few lanes.
        least: At least so many lanes stay.
        gone: `(lanes,)` bool, lanes that cannot come back.

    Returns:
        `(lanes,)` bool.
    """
    if gone is not None:
        counts = counts.masked_fill(gone, -1)
    at_rank = int(torch.sort(counts, descending=True).values[least - 1])
    return counts >= max(0, min(least_count, at_rank))
