"""How a network's budget of weights is shared among its layers, exact to the integer.

A distribution (`sparse_core.budgets.densities`) says how dense a layer is relative to the others.
No layer can have more weights than it has room for: such layers become dense and the others share
what is left, until the densities add up to the request. They are then rounded by largest remainder.

Where tasks have disjoint masks in a layer that they share, a budget that is rounded up can leave
room for one task less: 29 of 144 weights fit 4 times, 28.8 five times. Budgets of such layers are
rounded down, and what is left over goes to the layers of which each task has its own. If those can
take it, the total is exact. If there are none, or they are dense or full, the total is short by
less than one weight a layer (with constant fan-in one weight of each neuron, with blocks one
block).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real

from torch import Tensor

from sparse_core.budgets.ranking import top_of_network
from sparse_core.budgets.selection import Selected
from sparse_core.budgets.structure import NOfM, Structure
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.naming import distribution_named

TINY = 1e-6
"""How far rounding errors may take a number of weights off an integer."""


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
    """

    name: str
    wish: float
    least: int
    most: int
    quantum: int = 1
    beside: int = 1

    @property
    def ceiling(self) -> int:
        """The largest budget with which `beside` tasks fit."""
        if self.beside == 1:
            return self.most
        return max(self.least, self.most // self.beside // self.quantum * self.quantum)


def budgets(
    tensors: Sequence[Selected],
    config: SparseConfig,
    structure: Structure,
    apart: Sequence[str] | None = None,
) -> dict[str, int]:
    """Give each tensor its number of active weights.

    Args:
        tensors: The selected tensors, dense ones among them.
        config: Sparsity, distribution and which layers stay dense or have a sparsity of their own.
        structure: Says the least budget and the quantum of a layer's shape.
        apart: Roles or name patterns of the tensors of which each task has its own, where tasks
            have disjoint masks in the others; None: no tasks.

    Returns:
        Tensor name -> budget. Over the layers that share (over dense ones too with
        `dense_in_budget`) they add up to `round((1 - sparsity) * weights)`, or to the nearest
        number below that the quanta, and tasks beside each other, allow. N:M patterns have what the
        pattern says, which is more where M does not divide a row.

    Raises:
        ValueError: If the request leaves a layer less than it needs, or dense layers alone exceed
            it.
    """
    result = {tensor.name: tensor.numel for tensor in tensors}
    dense = {t.name for t in tensors if any(t.matches(pattern) for pattern in config.kept_dense)}
    own = {t.name: own_sparsity(t, config) for t in tensors if t.name not in dense}
    for tensor in tensors:
        sparsity = own.get(tensor.name)
        if sparsity is not None:
            share = _share(tensor, 1.0, structure)
            exact = (1 - sparsity) * tensor.numel
            (share,) = _beside([tensor], [share], exact, apart)
            result[tensor.name] = allocate([share], round(exact), sparsity)[0]
    sharing = [t for t in tensors if t.name in own and own[t.name] is None]
    if not sharing:
        return result
    total = sum(t.numel for t in sharing)
    dense_total = sum(result[name] for name in dense)
    inside = dense_total if config.dense_in_budget else 0
    exact = config.density * (total + inside) - inside
    total = round(config.density * (total + inside)) - inside
    relative = _relative_densities(sharing, config.distribution)
    shares = [_share(t, r, structure) for t, r in zip(sharing, relative, strict=True)]
    shares = _beside(sharing, shares, exact, apart)
    if isinstance(structure, NOfM) and not (config.dense_in_budget and dense_total):
        total = sum(share.least for share in shares)
    counts = allocate(shares, total, config.sparsity)
    return result | {t.name: count for t, count in zip(sharing, counts, strict=True)}


def budgets_by_score(
    tensors: Sequence[Selected], total: int, scores: Mapping[str, Tensor]
) -> dict[str, int]:
    """Give each tensor its share of the highest scores of the network, at least one weight.

    Args:
        tensors: The sparse tensors.
        total: Active weights of all.
        scores: Tensor name -> score of each weight.
    """
    flat = [scores[t.name].detach().reshape(1, -1) for t in tensors]
    best = [s == s.max() for s in flat]
    first = [b & (b.cumsum(1) == 1) for b in best]
    rest = top_of_network(flat, [~f for f in first], total - len(tensors))
    return {t.name: int(f.sum() + r.sum()) for t, f, r in zip(tensors, first, rest, strict=True)}


def own_sparsity(tensor: Selected, config: SparseConfig) -> float | None:
    """Return the sparsity that `layer_sparsity` gives a tensor (the first match), or None."""
    return next((s for pattern, s in config.layer_sparsity if tensor.matches(pattern)), None)


def _relative_densities(tensors: Sequence[Selected], distribution: str) -> list[float]:
    density = distribution_named(distribution)
    found = []
    for tensor in tensors:
        relative: object = density(tensor)
        if not isinstance(relative, Real) or not 0 < float(relative) < math.inf:
            raise InputError(
                f"distribution={distribution!r}: returns {relative!r} for layer {tensor.name!r}, "
                "must be a positive number",
                field="distribution",
            )
        found.append(float(relative))
    return found


def _share(tensor: Selected, relative: float, structure: Structure) -> Share:
    rows, cols = tensor.numel // tensor.cols, tensor.cols
    return Share(
        tensor.name,
        relative * tensor.numel,
        structure.least(rows, cols),
        tensor.numel,
        structure.quantum(rows, cols),
    )


def _beside(
    tensors: Sequence[Selected],
    shares: Sequence[Share],
    total: float,
    apart: Sequence[str] | None,
) -> list[Share]:
    """Set `beside` of the layers that tasks share: how often their exact budgets fit."""
    if apart is None:
        return list(shares)
    scale = _scale(shares, total)
    return [
        share
        if any(tensor.matches(pattern) for pattern in apart)
        else replace(share, beside=int(share.most / _clip(scale * share.wish, share) + TINY))
        for tensor, share in zip(tensors, shares, strict=True)
    ]


def allocate(shares: Sequence[Share], total: int, sparsity: float) -> list[int]:
    """Share `total` weights in proportion to the wishes, within each layer's bounds.

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
    scale = _scale(shares, total)
    targets = [_clip(scale * s.wish, s) for s in shares]
    return _round(targets, shares, total)


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
