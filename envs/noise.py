"""Distractors: features that are appended to an observation and mean nothing."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.drift import stream_of
from envs.spaces import box, vector_space
from sparse_core import checks
from sparse_core.checks import one_of

STREAM = 0x6E6F6973
"""Tells the wrapper's random stream apart from others of the same seed."""

NOISE = ("normal", "empirical", "copy")
"""What distractors are like."""

MEMORY = 1000
"""Latest observations that distractors are taken from."""

DRAWN = 32_768
"""About how many random numbers are drawn at a time."""

LEVELS = 65_536
"""Values that a random number of 16 bits has."""


class NoisyFeatures(
    gym.ObservationWrapper[NDArray[Any], Any, NDArray[Any]], gym.utils.RecordConstructorArgs
):
    """Append distractor features, drawn anew at every step.

    They are `fraction` of the observation: it has ceil(d / (1 - fraction)) features instead of d,
    the true ones first (the extremely noisy environments of Grooten et al. 2023, "Automatic Noise
    Filtering with Dynamic Sparse Training in Deep Reinforcement Learning", section 3). There, noise
    is drawn inside the networks; here it is part of the observation, so a replay buffer keeps it.

    Their kind is one of these:

    - `normal`: N(0, 1), as its 65,536 equally likely quantiles (the largest is 4.3): three times
      as fast as exact draws, which would be most of the time of many a step.
    - `empirical`: distractor i is distributed as true feature i mod d, each by itself. The paper
      draws from a histogram recorded before; this draws from the latest 1000 observations, the
      present one among them.
    - `copy`: d distractors at a time are one of those observations as a whole, in a shuffled order
      that is always the same: they go together as true ones do, at another time.

    The features have a random stream of their own, made from the seed given to `reset`: the
    environment itself behaves as it does without them.

    Args:
        env: An environment whose observations are vectors.
        fraction: In [0, 1).
        kind: `normal`, `empirical` or `copy`.

    Raises:
        InputError: If the fraction is out of range, there is no such kind, or the observations are
            no vectors of floats.
    """

    def __init__(
        self, env: gym.Env[NDArray[Any], Any], fraction: float, kind: str = "normal"
    ) -> None:
        fraction = checks.fraction("fraction", fraction)
        one_of("kind", kind, NOISE)
        gym.utils.RecordConstructorArgs.__init__(self, fraction=fraction, kind=kind)
        gym.ObservationWrapper.__init__(self, env)
        self.kind = kind
        space = vector_space(env)
        size = space.shape[0]
        self.distractors = noisy_size(size, fraction) - size
        self._space, self._imitated = space, np.arange(self.distractors) % size
        self._noise: np.random.Generator | None = None
        self._drawn: Iterator[NDArray[Any]] = iter(())
        self.observation_space = self._noisy_space()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin an episode; a seed also begins the stream of distractors."""
        if seed is not None or self._noise is None:
            self._noise = np.random.default_rng(stream_of(self, seed, STREAM))
            self._drawn = iter(())
            if self.kind != "normal":
                self._forget()
        return super().reset(seed=seed, options=options)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Append the distractors: `(d,)` to `(d + distractors,)`."""
        size = observation.size
        noisy = np.empty(size + self.distractors, dtype=observation.dtype)
        noisy[:size] = observation
        if self.distractors and self.kind == "normal":
            noisy[size:] = self._next(self.distractors)
        elif self.distractors:
            noisy[size:] = self._remembered(observation)
        return noisy

    def _noisy_space(self) -> spaces.Box:
        low, high = self._space.low[self._imitated], self._space.high[self._imitated]
        if self.kind == "normal":
            low, high = np.full_like(low, -np.inf), np.full_like(high, np.inf)
        elif self.kind == "copy":
            low, high = (
                np.full_like(low, self._space.low.min()),
                np.full_like(high, self._space.high.max()),
            )
        return box(
            np.concatenate([self._space.low, low]),
            np.concatenate([self._space.high, high]),
            self._space,
        )

    def _forget(self) -> None:
        size = self._space.shape[0]
        self._seen = np.zeros((size, MEMORY), dtype=self._space.dtype)
        self._count, self._placed = 0, False
        if self.kind == "copy":
            self._blocks = -(-self.distractors // size)
            rng = np.random.default_rng(
                STREAM
            )  # one order for all seeds, as there is of true features
            orders = [rng.permutation(size) for _ in range(self._blocks)]
            self._imitated = np.concatenate([*orders, np.zeros(0, np.int64)])[: self.distractors]
            self._block = np.repeat(np.arange(self._blocks), size)[: self.distractors]

    def _remembered(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Take the distractors from what was observed, which is this observation too from now."""
        self._seen[:, self._count % MEMORY] = observation
        self._count += 1
        drawn = self._next(self._blocks if self.kind == "copy" else self.distractors)
        return self._seen.take(drawn if self._placed else self._places(drawn, self._count))

    def _places(self, draws: NDArray[np.uint16], seen: int) -> NDArray[np.int64]:
        """Turn random numbers into places among the latest `seen` observations."""
        when = np.multiply(draws, min(seen, MEMORY), dtype=np.uint32)
        when >>= 16
        if self.kind == "copy":
            when = when[..., self._block]
        return when.astype(np.int64) + MEMORY * self._imitated

    def _next(self, count: int) -> NDArray[Any]:
        """Return what was drawn for a step, for many steps at a time, from `count` numbers.

        Of the kind `normal` it is distractors, (count,) float32. Else it is (count,) uint16, or
        places of distractors where the memory was full when they were drawn.
        """
        drawn = next(self._drawn, None)
        if drawn is None:
            assert self._noise is not None, "reset comes first"
            steps = 4 * (1 + DRAWN // (4 * count))
            bits = self._noise.bit_generator.random_raw(steps * count // 4).view(np.uint16)
            several: NDArray[Any] = bits.reshape(steps, count)
            if self.kind == "normal":
                several = quantiles()[several]
            else:
                self._placed = self._count >= MEMORY
                several = self._places(several, MEMORY) if self._placed else several
            self._drawn = iter(several)
            drawn = next(self._drawn)
        return drawn


@functools.cache
def quantiles() -> NDArray[np.float32]:
    """Return the quantiles (i + 1/2) / `LEVELS` of N(0, 1), (LEVELS,), in ascending order."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / LEVELS) for i in range(LEVELS)], np.float32)


def noisy_size(size: int, fraction: SupportsFloat) -> int:
    """Return ceil(size / (1 - fraction)), free of rounding errors.

    `4 / (1 - 0.9)` is 40.000000000000014 in floating point; the size is 40.
    """
    return math.ceil(round(size / (1 - float(fraction)), 9))
