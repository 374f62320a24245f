"""Metrics of continual reinforcement learning, those of Continual World.

With p_i(t) in [0, 1] the performance on task i after t steps in total, N tasks of D steps each, and
p_i^b the performance of a network that learns task i alone:

    performance        mean_i p_i(N D)
    forgetting         mean_i p_i(i D) - p_i(N D)
    forward transfer   mean_i (A_i - A_i^b) / (1 - A_i^b)

A_i is the area below p_i while task i is learnt, over D; A_i^b that below p_i^b (Wolczyk et al.
2021, "Continual World: A Robotic Benchmark for Continual Reinforcement Learning", section 4). Areas
are taken by the trapezoidal rule between evaluations.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from sparse_core.checks import InputError

Matrix = Sequence[Sequence[float]]
Curve = Sequence[tuple[float, float]]


def performance(matrix: Matrix) -> float:
    """Return the mean performance on all tasks after the last of them.

    Args:
        matrix: Row i holds the performances on tasks 0 to i (or more) after task i.
    """
    seen = len(matrix)
    return sum(matrix[-1][:seen]) / seen


def forgetting(matrix: Matrix) -> float:
    """Return by how much performance fell since a task's end, on average over all tasks.

    The last task, with which nothing can have happened yet, counts as one of them.

    Args:
        matrix: As above.
    """
    return sum(row[i] - matrix[-1][i] for i, row in enumerate(matrix)) / len(matrix)


def forward_transfer(curves: Sequence[Curve], baselines: Sequence[Curve]) -> float:
    """Return by how much faster tasks are learnt in the sequence than alone; see `transfers`."""
    gains = transfers(curves, baselines)
    return sum(gains) / len(gains)


def transfers(curves: Sequence[Curve], baselines: Sequence[Curve]) -> list[float]:
    """Return the forward transfer to each task, at most 1; below 0: alone it was learnt faster.

    Args:
        curves: For each task (step, performance), from its beginning to its end in the sequence.
        baselines: The same of networks that learn one task alone.

    Raises:
        ValueError: If there are not as many curves of one kind as of the other, or a baseline
            leaves nothing to gain.
    """
    if len(curves) != len(baselines):
        raise InputError(f"{len(curves)} curves: need as many baselines, not {len(baselines)}")
    gains = []
    for task, (curve, baseline) in enumerate(zip(curves, baselines, strict=True)):
        alone = area(baseline)
        if alone >= 1:
            raise InputError(f"baseline of task {task} has area {alone:g}: nothing is left to gain")
        gains.append((area(curve) - alone) / (1 - alone))
    return gains


def area(curve: Curve) -> float:
    """Return the area below a curve over its length, by the trapezoidal rule.

    Args:
        curve: (step, performance), at least two, steps ascending.

    Raises:
        ValueError: If it has no length.
    """
    if len(curve) < 2 or curve[-1][0] <= curve[0][0]:
        raise InputError(f"curve of {len(curve)} evaluations: need two at different steps")
    pairs = itertools.pairwise(curve)
    whole = sum((right - left) * (one + two) / 2 for (left, one), (right, two) in pairs)
    return whole / (curve[-1][0] - curve[0][0])
