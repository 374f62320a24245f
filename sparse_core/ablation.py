"""SRigL's neuron ablation (Lasby et al. 2024, section 3): neurons with few salient weights go.

A position is salient if it is one of the n_keep active weights of largest magnitude in its layer,
or one of the n_prune inactive positions of largest gradient magnitude. A neuron with fewer salient
positions than the threshold is ablated; its weights go to the other neurons.

Deviation from the published code, which ranks gradients over all positions, active ones included:
here, as in the paper's text, only inactive positions are candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor


def threshold(gamma: float, fan_in: int) -> int:
    """Return the least number of salient weights of a neuron that stays.

    Args:
        gamma: From 1 on an absolute count, below 1 a fraction of `fan_in`.
        fan_in: The constant fan-in without ablation, k = budget // rows.
    """
    return int(gamma) if gamma >= 1 else max(1, int(gamma * fan_in))


def live_lanes(salient: Tensor, least_count: int, least_lanes: int) -> Tensor:
    """Choose the lanes that stay.

    Args:
        salient: `(lanes, width)` bool.
        least_count: The ablation threshold. It is lowered where it would leave too few lanes.
        least_lanes: At least so many lanes stay, so that the fan-in does not exceed the dense one.

    Returns:
        `(lanes,)` bool.
    """
    counts = salient.sum(1)
    at_rank = int(torch.sort(counts, descending=True).values[least_lanes - 1])
    return counts >= min(least_count, at_rank)
