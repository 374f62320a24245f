"""Exact top-k selection; ties are broken by position, so that every backend selects the same."""

from __future__ import annotations

import torch
from torch import Tensor

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
    most = int(counts.max())
    if most == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    highest = scores.topk(most, dim=1).values
    threshold = highest.gather(1, (counts - 1).clamp(min=0).unsqueeze(1))
    above = scores > threshold
    tied = (scores == threshold) & (scores > MINUS_INFINITY)
    room = (counts - above.sum(1)).unsqueeze(1)
    picked = above | (tied & (tied.cumsum(1) <= room))
    return picked & (counts > 0).unsqueeze(1)


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
        raise ValueError(f"count={count}: {len(scores)} layers need at least {count - left}")
    flat = torch.cat([s.reshape(-1).double() for s in scores]).unsqueeze(0)
    certain = torch.cat([f.reshape(-1) for f in first]).unsqueeze(0)
    allowed = torch.cat([a.reshape(-1) for a in among]).unsqueeze(0) & ~certain
    picked = (certain | top_of_layer(flat, allowed, left)).squeeze(0)
    parts = torch.split(picked, [s.numel() for s in scores])
    return [part.reshape(s.shape) for part, s in zip(parts, scores, strict=True)]
