"""Which backend a layer gets with `backend="auto"`: the condensed one, where that pays.

Of all ways to condense some layers of a chain and leave the others masked, the one that costs least
is taken. Where a layer is three times faster in one form by the costs that are shipped, in a chain
or alone, it gets that form, on any machine. Where forms are closer, and with several threads, costs
measured on the machine at hand decide (`sparse_core.layers.calibration`). So a layer may get
different backends on two machines, which visit the same topologies and differ in rounding;
`SPARSE_CORE_COSTS=shipped` keeps to the shipped costs. By those, layers of as many inputs as
neurons are condensed from this size on:

    density                      0.5     0.2     0.1     0.05
    batch 256, alone              70      48      45      43    neurons
    batch 256, groups of 4        38      32      31      30
    batch 64, alone              131      96      90      87
    batch 32, alone              157     124     117     114

With float64 the condensed layer computes with dense weights and never pays.
`sweeps/bench/choice.py` measures the rule against both backends.

Training an embedding of v tokens costs, in microseconds for a batch of n,

    masked      55 + 0.0007 v size + n (0.045 + 0.00037 size)
    condensed   125 + 0.0003 v size d + n (0.02 + 0.00012 size + 0.00115 size d)

measured on one core for v of 10 to 70,000, sizes of 16 to 256 and n of 32 to 20,000: the masked one
goes through its whole matrix for every batch, so from about 100,000 weights on the condensed one
wins, by 3 to 20 times from a million on. With several tokens a sample, n is larger than the batch
that is asked for, which is no reason against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from sparse_core.layers.costs import Costs, shipped

TYPICAL_BATCH = 256
"""Samples of a training batch where none is named."""

CLEAR = 3.0
"""Times that one backend has to be faster by the shipped costs to be chosen without a measurement.

BLAS of processors of one instruction set differs by a factor of two relative to the kernels."""

MASKED_SAMPLE, MIXED_SAMPLE = 3_000.0, 20_000.0
"""Nanoseconds that one sample takes longer through each layer that is not condensed, and through a
network of both forms, whose code comes into the caches by turns: measured with layers of 64."""


@dataclass(frozen=True)
class Candidate:
    """A linear layer that may be condensed.

    Attributes:
        rows: Neurons.
        cols: Dense fan-in.
        density: Fraction of the weights that is active, in [0, 1], the largest that there will be;
            None: it cannot be condensed.
        group: Consecutive neurons that share their columns.
    """

    rows: int
    cols: int
    density: float | None
    group: int = 1


def condensed_pays(
    rows: int, cols: int, density: float, group: int = 1, batch: int = TYPICAL_BATCH
) -> bool:
    """Whether a condensed layer by itself trains at least as fast as a masked one.

    Args:
        rows: Neurons.
        cols: Dense fan-in.
        density: Fraction of the weights that is active, in [0, 1].
        group: Consecutive neurons that share their columns.
        batch: Samples of a training batch.
    """
    return fastest([Candidate(rows, cols, density, group)], batch)[0]


def condensed_embedding_pays(
    vocabulary: int, size: int, density: float, tokens: int = TYPICAL_BATCH
) -> bool:
    """Whether a condensed embedding trains at least as fast as a masked one, by the rule above.

    Args:
        vocabulary: Tokens that there are.
        size: Dense entries of each.
        density: Fraction of the weights that is active.
        tokens: Tokens of a training batch.
    """
    weights = vocabulary * size
    masked = 55 + 0.0007 * weights + tokens * (0.045 + 0.00037 * size)
    looked_up = tokens * (0.02 + 0.00012 * size + 0.00115 * size * density)
    return 125 + 0.0003 * weights * density + looked_up <= masked


def fastest(path: Sequence[Candidate], batch: int) -> list[bool]:
    """Return which layers to condense so that training them takes least time.

    Args:
        path: Layers that follow each other in one chain, as far as they are condensed.
        batch: Samples of a training batch.
    """
    groups = {layer.group for layer in path if layer.density is not None}
    if not groups:
        return [False] * len(path)
    other = min(groups)  # what a masked layer costs is the same in all of them

    def costs_by(source: Callable[[int, int], Costs]) -> list[Costs]:
        return [source(batch, layer.group if layer.group in groups else other) for layer in path]

    if torch.get_num_threads() == 1:
        costs = costs_by(shipped)
        if all(_is_clear(path, i, costs[i]) for i in range(len(path))):
            return cheapest(path, costs)
    from sparse_core.layers.calibration import costs as measured

    return cheapest(path, costs_by(measured))


def fastest_acting(
    paths: Sequence[Sequence[Candidate]], batch: int, acts: float
) -> list[list[bool]]:
    """Return which layers to condense where a network is asked about single samples, too.

    Layers that pay by themselves may not where others stay masked: one sample takes longer through
    both forms than through either.

    Args:
        paths: Runs of layers as `fastest` takes them, all of one network.
        batch: Samples of a training batch.
        acts: Single samples for each training batch.
    """
    ways = [fastest(path, batch) for path in paths]
    pairs = list(zip(chain(*paths), chain(*ways), strict=True))
    free = {condensed for layer, condensed in pairs if layer.density is not None}
    if not acts or len(free) < 2:
        return ways
    from sparse_core.layers.calibration import costs

    group = min(layer.group for layer, _ in pairs if layer.density is not None)

    def total(ways: Sequence[Sequence[bool]]) -> float:
        spent, masked, layers = 0.0, 0, 0
        for path, forms in zip(paths, ways, strict=True):
            for i, (layer, condensed) in enumerate(zip(path, forms, strict=True)):
                joints = [layer.cols] if i and forms[i - 1] else []
                of_layer = costs(batch, group if layer.density is None else layer.group)
                spent += (
                    of_layer.condensed(layer.rows, layer.cols, layer.density or 0.0, joints)
                    if condensed
                    else of_layer.masked(layer.rows, layer.cols)
                )
                masked, layers = masked + (not condensed), layers + 1
        mixed = MIXED_SAMPLE if 0 < masked < layers else 0.0
        return spent + acts * (masked * MASKED_SAMPLE + mixed)

    condensed = [[layer.density is not None for layer in path] for path in paths]
    return min((ways, condensed, [[False] * len(path) for path in paths]), key=total)


def pay_together(layers: Sequence[Candidate], batch: int) -> bool:
    """Whether layers that have one form, in no chain, train at least as fast condensed.

    Args:
        layers: Such as the projections of an attention module.
        batch: Samples of a training batch.
    """
    if any(layer.density is None for layer in layers):
        return False

    def advantage(source: Callable[[int, int], Costs]) -> float:
        masked = condensed = 0.0
        for layer in layers:
            costs = source(batch, layer.group)
            masked += costs.masked(layer.rows, layer.cols)
            condensed += costs.condensed(layer.rows, layer.cols, layer.density or 0.0)
        return masked / condensed if condensed else float("inf")

    by_shipped = advantage(shipped)
    if torch.get_num_threads() == 1 and (by_shipped >= CLEAR or by_shipped <= 1 / CLEAR):
        return by_shipped >= 1
    from sparse_core.layers.calibration import costs as measured

    return advantage(measured) >= 1


def cheapest(path: Sequence[Candidate], costs: Sequence[Costs]) -> list[bool]:
    """Return which layers to condense by the costs of each.

    Args:
        path: Layers that follow each other in one chain, as far as they are condensed.
        costs: Of each layer.
    """
    # The least that the layers so far cost, and how, if the last is condensed or masked.
    best: dict[bool, tuple[float, list[bool]]] = {False: (0.0, [])}
    for layer, cost in zip(path, costs, strict=True):
        shape, after = (layer.rows, layer.cols), {}
        if layer.density is not None:
            ways = [
                (total + cost.condensed(*shape, layer.density, [layer.cols] * joined), forms)
                for joined, (total, forms) in best.items()
            ]
            total, forms = min(ways, key=lambda way: way[0])
            after[True] = total, [*forms, True]
        total, forms = min(best.values(), key=lambda way: way[0])
        after[False] = total + cost.masked(*shape), [*forms, False]
        best = after
    return min(best.values(), key=lambda way: way[0])[1]


def _is_clear(path: Sequence[Candidate], i: int, costs: Costs) -> bool:
    """Whether a layer has one form by far, whatever its neighbours have."""
    layer = path[i]
    if layer.density is None:
        return True
    before, after = path[:i][-1:], path[i + 1 :][:1]
    joints = [layer.cols for other in before if other.density is not None]
    joints += [layer.rows for other in after if other.density is not None]
    shape = layer.rows, layer.cols, layer.density
    return costs.advantage(*shape) >= CLEAR or costs.advantage(*shape, joints) <= 1 / CLEAR
