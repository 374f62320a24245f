"""Intervals called 95 % cover what they should, of normal scores and of skewed ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sweeps.results import stats
from sweeps.results.estimates import FEW_LEVEL, MANY, estimate, t_interval
from sweeps.results.pairs import difference

Draw = Callable[[np.random.Generator, tuple[int, ...]], stats.Floats]
AT_LEAST = 0.93
SCORES: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "near the best return": lambda rng, shape: rng.beta(5, 1, size=shape),  # skewness -1.2
    "a few far above": lambda rng, shape: np.exp(0.5 * rng.normal(size=shape)),  # skewness 1.75
}


def middle(draw: Draw, statistic: str) -> float:
    """Return the mean, or the mean of the middle half, of a distribution."""
    sample = np.sort(draw(np.random.default_rng(0), (1_000_000,)))
    return float(sample.mean() if statistic == "mean" else sample[250_000:-250_000].mean())


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("seeds", [3, 5, MANY - 1])
def test_the_mean_of_few_seeds_is_covered(name: str, seeds: int) -> None:
    truth = middle(SCORES[name], "mean")
    trials = SCORES[name](np.random.default_rng(1), (2_000, seeds))
    found = [t_interval(scores, FEW_LEVEL) for scores in trials.tolist()]
    covered = np.mean([it.low <= truth <= it.high for it in found if it is not None])
    assert covered >= AT_LEAST
    assert estimate(trials[0].tolist()) == (trials[0].mean(), found[0], "mean")


@pytest.mark.parametrize("name", SCORES)
def test_the_iqm_of_ten_seeds_is_covered(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.results.estimates.REPETITIONS", 500)
    truth = middle(SCORES[name], "IQM")
    trials = SCORES[name](np.random.default_rng(1), (400, MANY))
    found = [estimate(scores, "coverage", trial) for trial, scores in enumerate(trials.tolist())]
    assert {it.way for it in found if it is not None} == {"IQM"}
    ends = [it.interval for it in found if it is not None and it.interval is not None]
    assert np.mean([end.low <= truth <= end.high for end in ends]) >= AT_LEAST


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("seeds", [3, 5, MANY])
def test_paired_differences_are_covered_where_one_side_varies_less(name: str, seeds: int) -> None:
    rng = np.random.default_rng(2)
    ours, theirs = (SCORES[name](rng, (1_000, seeds)) for _ in range(2))
    gaps = ours - 0.5 * theirs
    truth = 0.5 * middle(SCORES[name], "mean")
    found = [difference(one, [0.0] * seeds) for one in gaps.tolist()]
    assert np.mean([gap.low <= truth <= gap.high for gap in found if gap]) >= AT_LEAST


def test_the_plain_bootstrap_of_three_seeds_is_why_there_is_another() -> None:
    trials = np.random.default_rng(1).normal(size=(300, 3, 1))
    rng = np.random.default_rng(2)
    found = [stats.interval(stats.mean, scores, rng, repetitions=300) for scores in trials]
    assert np.mean([it.low <= 0 <= it.high for it in found]) < 0.8
