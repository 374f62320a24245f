"""Differences of two methods over runs with equal seeds, and how likely chance alone makes them.

A t interval and Student's paired test rest on differences that are near to normal; the permutation
test rests on nothing but that either sign was as likely (Fisher 1935), and can say little of few
pairs: of five, never less than 0.0625. Where a table makes many comparisons, Holm's correction
(Holm 1979) keeps the probability of one false difference or more at the level of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from sweeps.results import stats
from sweeps.results.estimates import t_interval

LEVEL = 0.05
"""At most this probability of a difference, or of one in a table, where there is none."""

EXACT = 14
"""Pairs up to which all signs are tried."""

SIGNS = 4_000
"""Signs that are drawn where there are more pairs."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Difference:
    """The mean difference of paired runs.

    Attributes:
        value: The mean of the differences.
        low: Lower end of its 95 % t interval.
        high: Upper end.
        pairs: Number of seeds that both have.
        p: Two-sided probability by Student's paired test.
        p_signs: Two-sided probability by the permutation test of signs.
        p_holm: `p` after Holm's correction for all differences of its table.
    """

    value: float
    low: float
    high: float
    pairs: int
    p: float
    p_signs: float
    p_holm: float

    @property
    def holds(self) -> bool:
        """Whether it survives the correction."""
        return self.p_holm <= LEVEL


def difference(scores: Sequence[float], others: Sequence[float]) -> Difference | None:
    """Compare paired scores; None of fewer than two pairs.

    Args:
        scores: One a seed.
        others: Those of the same seeds.

    Returns:
        The difference, as yet alone in its table.

    Raises:
        ValueError: If there are not as many of the one as of the others.
    """
    if len(scores) != len(others):
        raise ValueError(f"{len(scores)} scores and {len(others)} others: must be pairs")
    gaps = np.asarray(scores, dtype=float) - np.asarray(others, dtype=float)
    found = t_interval(gaps.tolist())
    if found is None:
        return None
    p = paired_t(gaps)
    return Difference(*found, len(gaps), p, sign_test(gaps), p)


def paired_t(gaps: stats.Floats) -> float:
    """Return Student's two-sided probability of a mean so far from zero.

    Of equal differences it is 0, or 1 if they are zero.

    Args:
        gaps: `(pairs,)`, at least two.
    """
    middle, spread = float(gaps.mean()), float(gaps.std(ddof=1))
    if spread <= _ROUNDING * float(np.abs(gaps).max()):
        return 0.0 if middle else 1.0
    t = middle / (spread / len(gaps) ** 0.5)
    return float(2 * stdtr(len(gaps) - 1, -abs(t)))


def sign_test(gaps: stats.Floats) -> float:
    """Return the probability of so large a mean if each difference's sign were a coin's.

    All signs are tried up to `EXACT` pairs, else `SIGNS` are drawn.

    Args:
        gaps: `(pairs,)`.
    """
    count = len(gaps)
    if count <= EXACT:
        codes = np.arange(2**count)[:, None] >> np.arange(count)
        signs = 1 - 2 * (codes & 1)
        extra = 0
    else:
        rng = stats.generator("signs", count)
        signs = 1 - 2 * rng.integers(2, size=(SIGNS, count))
        extra = 1  # the signs that were observed
    totals = np.abs(signs @ gaps)
    reached = int((totals >= abs(gaps.sum()) - _ROUNDING * np.abs(gaps).sum()).sum())
    return (reached + extra) / (len(signs) + extra)


def holm(probabilities: Sequence[float]) -> list[float]:
    """Return probabilities after Holm's step-down correction, in their order.

    Args:
        probabilities: Of all comparisons that are made together.
    """
    order = np.argsort(probabilities, kind="stable")
    corrected = [0.0] * len(probabilities)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, (len(probabilities) - rank) * probabilities[int(index)])
        corrected[int(index)] = min(1.0, largest)
    return corrected
