"""Scores on one scale for several tasks: 1 is the dense mean, 0 is random, zero or the worst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sweeps.results.stats import Floats
from sweeps.results.summary import Row, Summary

RANDOM = "random_score"
"""Entry of a result: the score of random actions on its task."""


class Scale(NamedTuple):
    """What stands for 0 and 1 on a task, and in words."""

    zero: float
    one: float
    said: str

    def of(self, scores: tuple[float, ...]) -> Floats:
        """Return scores on this scale."""
        span = self.one - self.zero
        return (np.asarray(scores, dtype=float) - self.zero) / (span if span else 1.0)


def scales(summary: Summary) -> Mapping[str, Scale]:
    """Return the scale of each task that has results.

    A share of the dense score has no meaning where scores can be negative: there 0 is the score of
    random actions, or else the worst run.
    """
    found = {}
    for task in summary.tasks:
        rows = [row for row in summary.rows if row.task == task and row.runs]
        if rows:
            found[task] = _scale(rows)
    return found


def _scale(rows: list[Row]) -> Scale:
    dense = [row for row in rows if row.baseline]
    best = max(dense or rows, key=lambda row: row.mean or 0.0)
    one = float(np.mean(best.scores))
    top = "the dense mean" if dense else "the mean of the best method"
    chance = [
        float(score)
        for row in rows
        for run in row.runs
        if (score := run.named.get(RANDOM)) is not None
    ]
    lowest = min(score for row in rows for score in row.scores)
    if chance:
        return Scale(float(np.mean(chance)), one, f"0 is random actions, 1 {top}")
    if lowest >= 0:
        return Scale(0.0, one, f"0 is zero, 1 {top}")
    return Scale(lowest, one, f"0 is the worst run, 1 {top}")
