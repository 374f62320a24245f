"""Exact top-k selection; ties are broken by position, so that every backend selects the same."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparse_core.checks import InputError

MINUS_INFINITY = float("-inf")


def top_per_lane(scores: Tensor, counts: Tensor) -> Tensor:
    """Select the `counts[i]` highest scores of lane i; among equal ones the first.

    Args:
        scores: `(lanes, width)` float; -inf is never selected.
        counts: `(lanes,)` int64.

    Returns:
        `(lanes, width)` bool.
    """
    width = scores.shape[1]
    counts = counts.to(scores.device).clamp(min=0, max=width)
    if not bool(counts.any()):
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = _thresholds(scores, counts.clamp(min=1)).unsqueeze(1)
    wanted = (counts > 0).unsqueeze(1)
    reached = (scores >= threshold.clamp(min=torch.finfo(scores.dtype).min)) & wanted
    if bool((reached.count_nonzero(1) <= counts).all()):
        return reached
    above = scores > threshold
    room = (counts - above.count_nonzero(1)).unsqueeze(1)
    tied = reached & ~above
    return (above & wanted) | (tied & (tied.cumsum(1) <= room))


def top_within(scores: Tensor, capacity: Tensor, prices: Tensor | None = None) -> Tensor:
    """Select the highest scores that the capacity of each lane pays for; among equal the first.

    Where cells have prices they are taken in order of their scores until less is left than the
    dearest cell costs. Whether one is taken thus hangs on its score and not on its own price.

    Args:
        scores: `(lanes, width)` float; -inf is never selected. One lane where there are prices.
        capacity: `(lanes,)` int64.
        prices: `(lanes, width)` int64, positive; None: all cells cost one.

    Returns:
        `(lanes, width)` bool.
    """
    if prices is None:
        return top_per_lane(scores, capacity)
    candidates = scores > MINUS_INFINITY
    prices = prices.to(scores.device)
    if int(prices[candidates].sum()) <= int(capacity):
        return candidates
    order = scores.argsort(dim=1, descending=True, stable=True)
    costs = prices.gather(1, order)
    left = int(capacity) - (costs.cumsum(1) - costs)
    return candidates & torch.zeros_like(candidates).scatter(1, order, left >= prices.max())


def _thresholds(scores: Tensor, counts: Tensor) -> Tensor:
    """Return the `counts[i]`-th highest score of lane i, `(lanes,)`; -inf if it has fewer.

    NumPy sorts and selects several times faster than torch on the CPU.
    """
    if not scores.is_cpu or scores.dtype not in (torch.float32, torch.float64):
        highest = scores.topk(int(counts.max()), dim=1).values
        return highest.gather(1, (counts - 1).unsqueeze(1)).squeeze(1)
    lanes = scores.detach().numpy()
    if len(lanes) > 1:
        places = lanes.shape[1] - counts.unsqueeze(1).numpy()
        return torch.from_numpy(np.take_along_axis(np.sort(lanes, axis=1), places, 1)[:, 0])
    finite = lanes[lanes > MINUS_INFINITY]  # selection is slow among many equal values
    place = finite.size - int(counts)
    if place < 0:
        return scores.new_full((1,), MINUS_INFINITY)
    return torch.from_numpy(np.partition(finite, place)[place : place + 1].copy())


def top_of_layer(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """Select the `count` highest scores among the allowed cells of a whole layer.

    Args:
        scores: `(lanes, width)`.
        among: `(lanes, width)` bool.
        count: How many.

    Returns:
        `(lanes, width)` bool.
    """
    flat = scores.masked_fill(~among, MINUS_INFINITY).reshape(1, -1)
    return top_per_lane(flat, torch.tensor([count])).reshape(scores.shape)


def top_of_network(
    scores: list[Tensor], among: list[Tensor], count: int, each: int = 0
) -> list[Tensor]:
    """Select the `count` highest scores among the allowed cells of several layers.

    Args:
        scores: `(lanes, width)` each.
        among: `(lanes, width)` bool each.
        count: How many in all.
        each: At least so many in each layer, as far as it has them.

    Returns:
        `(lanes, width)` bool each.

    Raises:
        ValueError: If `count` is less than `each` in every layer comes to.
    """
    first = [top_of_layer(s, a, each) for s, a in zip(scores, among, strict=True)]
    left = count - sum(int(f.sum()) for f in first)
    if left < 0:
        raise InputError(
            f"count={count}: {len(scores)} layers need at least {count - left}", field="count"
        )
    flat = torch.cat([s.reshape(-1).double() for s in scores]).unsqueeze(0)
    certain = torch.cat([f.reshape(-1) for f in first]).unsqueeze(0)
    allowed = torch.cat([a.reshape(-1) for a in among]).unsqueeze(0) & ~certain
    picked = (certain | top_of_layer(flat, allowed, left)).squeeze(0)
    parts = torch.split(picked, [s.numel() for s in scores])
    return [part.reshape(s.shape) for part, s in zip(parts, scores, strict=True)]
