"""Whole numbers of weights for layers that share a budget: by wishes, bounds and quanta.

No layer can have more weights than it has room for: such layers become dense and the others share
what is left. Then layers below their floor get what layers of more inputs pay, heads excepted, each
at most a part of its own share. What comes of it is rounded by largest remainder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparse_core.checks import InputError

TINY = 1e-6
"""How far rounding errors may take a number of weights off an integer."""

PAYS = 0.5
"""The part of its share that a layer can lose to the floors of others."""


@dataclass(frozen=True)
class Share:
    """What one layer wants and can hold, in weights.

    Attributes:
        name: For error messages.
        wish: Its relative share of the budget (its weights times its unscaled density).
        least: The fewest weights it can have.
        most: The most weights it can have.
        quantum: Its budget is a multiple of this.
        beside: How many tasks, each with this budget, must fit into the layer.
        floor: So many weights it should have, if layers of more inputs pay for them.
        inputs: Dense fan-in.
        pays: Whether it pays for the floors of others.
    """

    name: str
    wish: float
    least: int
    most: int
    quantum: int = 1
    beside: int = 1
    floor: int = 0
    inputs: int = 1
    pays: bool = True

    @property
    def ceiling(self) -> int:
        """The largest budget with which `beside` tasks fit."""
        if self.beside == 1:
            return self.most
        return max(self.least, self.most // self.beside // self.quantum * self.quantum)


def allocate(shares: Sequence[Share], total: int, sparsity: float) -> list[int]:
    """Share `total` weights in proportion to the wishes, within each layer's bounds and floors.

    Raises:
        ValueError: If the layers need more than `total`.
    """
    least = sum(share.least for share in shares)
    if total < least:
        neediest = max(shares, key=lambda s: s.least - s.wish * total / sum(x.wish for x in shares))
        raise InputError(
            f"sparsity={sparsity}: leaves {max(total, 0)} weights, but the layers need at least "
            f"{least} (layer {neediest.name!r} alone {neediest.least})",
            field="sparsity",
        )
    return _round(_raised(targets_of(shares, total), shares), shares, total)


def targets_of(shares: Sequence[Share], total: float) -> list[float]:
    """Share `total` weights in proportion to the wishes, within each layer's bounds, unrounded."""
    scale = _scale(shares, total)
    return [_clip(scale * share.wish, share) for share in shares]


def _raised(targets: Sequence[float], shares: Sequence[Share]) -> list[float]:
    """Move weights from layers of more inputs to those below their floors, of few inputs first."""
    raised = list(targets)
    left = [
        min(t - s.least, PAYS * t) if s.pays else 0.0 for t, s in zip(targets, shares, strict=True)
    ]
    for inputs in sorted({s.inputs for s, t in zip(shares, targets, strict=True) if s.floor > t}):
        short = {
            i: s.floor - raised[i]
            for i, s in enumerate(shares)
            if s.inputs == inputs and s.floor > raised[i]
        }
        needed = sum(short.values())
        able = sum(part for part, s in zip(left, shares, strict=True) if s.inputs > inputs)
        paid = min(needed, able)
        if paid <= 0:
            continue
        for i, share in enumerate(shares):
            if share.inputs > inputs:
                raised[i] -= left[i] * paid / able
                left[i] -= left[i] * paid / able
        for i, need in short.items():
            raised[i] += need * paid / needed
    return raised


def _clip(value: float, share: Share) -> float:
    return min(max(value, share.least), share.most)


def _scale(shares: Sequence[Share], total: float) -> float:
    """Solve sum(clip(scale * wish)) = total: layers at a bound leave the equation."""
    low, high = 0.0, max(s.most / s.wish for s in shares)
    for _ in range(200):
        middle = (low + high) / 2
        if sum(_clip(middle * s.wish, s) for s in shares) < total:
            low = middle
        else:
            high = middle
    return high


def _round(targets: Sequence[float], shares: Sequence[Share], total: int) -> list[int]:
    """Round to multiples of the quanta by largest remainder, without exceeding the total."""
    counts = [
        s.most if t + TINY >= s.most else max(s.least, int((t + TINY) / s.quantum) * s.quantum)
        for t, s in zip(targets, shares, strict=True)
    ]
    counts = [min(count, s.ceiling) for count, s in zip(counts, shares, strict=True)]
    order = sorted(range(len(shares)), key=lambda i: (counts[i] - targets[i]) / shares[i].quantum)
    left = total - sum(counts)
    while True:
        takers = [
            i
            for i in order
            if shares[i].quantum <= left and counts[i] + shares[i].quantum <= shares[i].ceiling
        ]
        if not takers:
            return counts
        for i in takers:
            if shares[i].quantum <= left:
                counts[i] += shares[i].quantum
                left -= shares[i].quantum
