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
from dataclasses import replace
from numbers import Real

from torch import Tensor, nn

from sparse_core.budgets.patterns import ConstantFanIn, NOfM
from sparse_core.budgets.ranking import top_of_network
from sparse_core.budgets.selection import Selected
from sparse_core.budgets.shares import TINY, Share, allocate, targets_of
from sparse_core.budgets.structure import Structure
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.naming import distribution_named


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
    _check_fan_in([t for t in tensors if t.name not in dense], config)
    own = {t.name: own_sparsity(t, config) for t in tensors if t.name not in dense}
    for tensor in tensors:
        sparsity = own.get(tensor.name)
        if sparsity is not None:
            share = replace(_share(tensor, 1.0, structure, config), floor=0)
            exact = (1 - sparsity) * tensor.numel
            (share,) = _beside([tensor], [share], exact, apart, structure)
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
    shares = [_share(t, r, structure, config) for t, r in zip(sharing, relative, strict=True)]
    shares = _beside(sharing, shares, exact, apart, structure)
    if isinstance(structure, NOfM) and not (config.dense_in_budget and dense_total):
        total = sum(share.least for share in shares)
    counts = allocate(shares, total, config.sparsity)
    return result | {t.name: count for t, count in zip(sharing, counts, strict=True)}


def _check_fan_in(tensors: Sequence[Selected], config: SparseConfig) -> None:
    own = [pattern for pattern, _ in config.layer_sparsity]
    for tensor in tensors:
        narrow = config.fan_in is not None and config.fan_in > tensor.cols
        if narrow and not any(tensor.matches(pattern) for pattern in own):
            raise InputError(
                f"fan_in={config.fan_in}: layer {tensor.name!r} has {tensor.cols} inputs; use "
                "fewer, keep it dense, or give it a layer_sparsity",
                field="fan_in",
            )


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
    """Return the sparsity that a tensor has outside the shared budget, or None.

    That of a layer which was born condensed is its own. `layer_sparsity` gives one (the first
    match), and so does `fan_in`.
    """
    if tensor.own_sparsity is not None:
        return tensor.own_sparsity
    for pattern, sparsity in config.layer_sparsity:
        if tensor.matches(pattern):
            return sparsity
    return None if config.fan_in is None else 1 - config.fan_in / tensor.cols


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


def _share(tensor: Selected, relative: float, structure: Structure, config: SparseConfig) -> Share:
    rows, cols = tensor.numel // tensor.cols, tensor.cols
    return Share(
        tensor.name,
        relative * tensor.numel,
        structure.least(rows, cols),
        tensor.numel,
        structure.quantum(rows, cols),
        floor=rows * least_fan_in(tensor, structure, config),
        inputs=cols,
        pays=tensor.role != "output",
    )


def least_fan_in(tensor: Selected, structure: Structure, config: SparseConfig) -> int:
    """Return how many inputs each neuron of a layer should have; 0: the distribution decides.

    It is `min_fan_in` in input layers with constant fan-in, all inputs where there are fewer. What
    the network is given has nothing to take its place, unlike the outputs of a wide hidden layer.
    """
    if config.fan_in is not None or tensor.own_sparsity is not None:
        return 0
    reads = tensor.role == "input" and not isinstance(tensor.layer, nn.Embedding)
    return (
        min(tensor.cols, config.min_fan_in) if reads and isinstance(structure, ConstantFanIn) else 0
    )


def _beside(
    tensors: Sequence[Selected],
    shares: Sequence[Share],
    total: float,
    apart: Sequence[str] | None,
    structure: Structure,
) -> list[Share]:
    """Set `beside` of the layers that tasks share: how often their exact budgets fit.

    Tasks divide a layer's inputs among them, so there are no floors.
    """
    if apart is None:
        return list(shares)
    targets = targets_of(shares, total)
    return [
        replace(share, floor=0)
        if any(tensor.matches(pattern) for pattern in apart)
        else replace(
            share,
            floor=0,
            beside=int(share.most / target + TINY),
            quantum=structure.quantum(tensor.numel // tensor.cols, tensor.cols, alike=True),
        )
        for tensor, share, target in zip(tensors, shares, targets, strict=True)
    ]
