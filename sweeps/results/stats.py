"""Statistics of few runs: aggregates, and bootstrap intervals that say how little is known.

Scores are matrices `(runs, tasks)`. Aggregates, the stratified bootstrap (runs are resampled within
each task) and the profiles are those of Agarwal et al. 2021, "Deep Reinforcement Learning at the
Edge of the Statistical Precipice"; the tests hold them against the numbers of its library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

REPETITIONS = 20_000
_CHUNK = 4_000_000


class Interval(NamedTuple):
    """An estimate and the confidence interval around it."""

    estimate: float
    low: float
    high: float


def generator(*names: str | int, seed: int = 0) -> np.random.Generator:
    """Return a random generator of its own for whatever the names stand for."""
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return np.random.default_rng(list(digest))


def mean(scores: ArrayLike) -> Floats:
    """Return the mean over runs and tasks; `scores: (..., runs, tasks)`."""
    return np.asarray(_matrices(scores).mean(axis=(-2, -1)))


def median(scores: ArrayLike) -> Floats:
    """Return the median over tasks of the mean over runs; `scores: (..., runs, tasks)`."""
    return np.asarray(np.median(_matrices(scores).mean(axis=-2), axis=-1))


def iqm(scores: ArrayLike) -> Floats:
    """Return the mean of the middle half of all scores; `scores: (..., runs, tasks)`.

    A quarter of the runs x tasks, rounded down, is cut at either end: of three scores nothing is.
    """
    matrices = _matrices(scores)
    flat = np.sort(matrices.reshape(*matrices.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def optimality_gap(scores: ArrayLike, target: float = 1.0) -> Floats:
    """Return by how much scores miss the target on average, without credit for surpassing it."""
    return np.asarray(target - np.minimum(_matrices(scores), target).mean(axis=(-2, -1)))


def probability_of_improvement(scores: ArrayLike, others: ArrayLike) -> Floats:
    """Return P(a run beats a run of the others on the same task), ties half, averaged over tasks.

    Args:
        scores: `(..., runs, tasks)`.
        others: `(..., other runs, tasks)`.
    """
    ours, theirs = _matrices(scores)[..., :, None, :], _matrices(others)[..., None, :, :]
    wins = (ours > theirs) + 0.5 * (ours == theirs)
    return np.asarray(wins.mean(axis=(-3, -2, -1)))


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Floats:
    """Return the fraction of runs x tasks above each threshold: `(..., thresholds)`."""
    matrices = _matrices(scores)[..., None]
    return np.asarray((matrices > np.asarray(thresholds)).mean(axis=(-3, -2)))


def area(curve: Floats) -> float:
    """Return the area below a curve over its length, each value held since the one before.

    The first value stands for all from 0 on. Of values at equal distances it is their mean.

    Args:
        curve: x and y, `(points, 2)`, x ascending and not below 0.

    Raises:
        ValueError: If it has no length.
    """
    x, y = np.asarray(curve, dtype=float).reshape(-1, 2).T
    if not len(x) or x[-1] <= 0:
        raise ValueError(f"curve of {len(x)} points: must end beyond 0")
    return float(np.diff(x, prepend=0.0) @ y / x[-1])


def interval(
    statistic: Statistic,
    scores: ArrayLike,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    repetitions: int = REPETITIONS,
    expand: bool = False,
) -> Interval:
    """Return a statistic with its stratified percentile bootstrap interval.

    Args:
        statistic: Maps `(..., runs, tasks)` to `(...)`, like `iqm`.
        scores: `(runs, tasks)`.
        rng: Draws the resamples.
        confidence: Probability that the interval is meant to cover.
        repetitions: Number of resamples.
        expand: Take percentiles further out, as Student's t and the variance of few runs ask for
            (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 3.4).
    """
    matrix = _matrices(scores)
    if expand:
        confidence = _expanded(confidence, len(matrix))
    chunks = _chunks(repetitions, matrix.size)
    draws = np.concatenate([statistic(_resample(matrix, count, rng)) for count in chunks])
    return Interval(float(statistic(matrix)), *_percentiles(draws, confidence))


def improvement_interval(
    scores: ArrayLike,
    others: ArrayLike,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    repetitions: int = REPETITIONS,
) -> Interval:
    """Return the probability of improvement with its interval, both sides resampled."""
    ours, theirs = _matrices(scores), _matrices(others)
    draws = [
        probability_of_improvement(_resample(ours, count, rng), _resample(theirs, count, rng))
        for count in _chunks(repetitions, ours.size * theirs.shape[0])
    ]
    estimate = float(probability_of_improvement(ours, theirs))
    return Interval(estimate, *_percentiles(np.concatenate(draws), confidence))


def _matrices(scores: ArrayLike) -> Floats:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim < 2 or 0 in array.shape[-2:]:
        raise ValueError(f"scores of shape {array.shape}: must be (runs, tasks), neither empty")
    return array


def _resample(matrix: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Draw runs with replacement within each task: `(count, runs, tasks)`."""
    runs, tasks = matrix.shape
    return matrix[rng.integers(runs, size=(count, runs, tasks)), np.arange(tasks)]


def _chunks(repetitions: int, size: int) -> list[int]:
    """Split the repetitions so that one chunk's resamples fit in memory."""
    chunk = max(1, _CHUNK // size)
    full, rest = divmod(repetitions, chunk)
    return [chunk] * full + [rest] * bool(rest)


def _expanded(confidence: float, runs: int) -> float:
    """Return the level at which percentiles are as wide as a t interval, if scores were normal."""
    if runs < 2:
        return confidence
    t = stdtrit(runs - 1, 0.5 + confidence / 2) * np.sqrt(runs / (runs - 1))
    return float(2 * ndtr(t) - 1)


def _percentiles(draws: Floats, confidence: float) -> tuple[float, float]:
    tail = 50 * (1 - confidence)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)
