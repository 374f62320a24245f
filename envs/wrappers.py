"""Wrappers that change what an agent observes: each is a class and an entry of `WRAPPERS`."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from numpy.typing import NDArray

from sparse_core import checks
from sparse_core.checks import InputError, within

STREAM = 0x6E6F6973
"""Tells the wrapper's random stream apart from others of the same seed."""


class NoisyFeatures(
    gym.ObservationWrapper[NDArray[Any], Any, NDArray[Any]], gym.utils.RecordConstructorArgs
):
    """Append distractor features, drawn anew from N(0, 1) at every step.

    They are `fraction` of the observation: it has ceil(d / (1 - fraction)) features instead of d,
    the true ones first (the extremely noisy environments of Grooten et al. 2023, "Automatic Noise
    Filtering with Dynamic Sparse Training in Deep Reinforcement Learning", section 3). There, noise
    is drawn inside the networks; here it is part of the observation, so a replay buffer keeps it.

    The features have a random stream of their own, made from the seed given to `reset`: the
    environment itself behaves as it does without them.

    Args:
        env: An environment whose observations are vectors.
        fraction: In [0, 1).

    Raises:
        ValueError: If the fraction is out of range or the observations are no vectors of floats.
    """

    def __init__(self, env: gym.Env[NDArray[Any], Any], fraction: float) -> None:
        real = isinstance(fraction, numbers.Real) and not isinstance(fraction, bool)
        within("fraction", float(fraction) if real else fraction, 0, 1, open_right=True)
        fraction = float(fraction)
        gym.utils.RecordConstructorArgs.__init__(self, fraction=fraction)
        gym.ObservationWrapper.__init__(self, env)
        space = _vector_space(env)
        size = space.shape[0]
        self.distractors = noisy_size(size, fraction) - size
        bound = np.full(self.distractors, np.inf, dtype=space.dtype)
        self.observation_space = spaces.Box(
            np.concatenate([space.low, -bound]),
            np.concatenate([space.high, bound]),
            dtype=space.dtype.type,
        )
        self._noise = np.random.default_rng()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin an episode; a seed also begins the stream of distractors."""
        if seed is not None:
            seeding.np_random(seed)  # refuses what is no seed
            self._noise = np.random.default_rng((seed, STREAM))
        return super().reset(seed=seed, options=options)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Append the distractors: `(d,)` to `(d + distractors,)`."""
        noise = self._noise.standard_normal(self.distractors)
        return np.concatenate([observation, noise.astype(observation.dtype)])


class PermuteObservation(
    gym.ObservationWrapper[NDArray[Any], Any, NDArray[Any]], gym.utils.RecordConstructorArgs
):
    """Observe the same features in another order.

    All features get the loosest of their bounds, so that environments that differ in the order only
    have one observation space: one policy can act in all of them.

    Args:
        env: An environment whose observations are vectors.
        permutation: Feature i of the new observation is feature `permutation[i]` of the old one.

    Raises:
        ValueError: If that is no permutation, or the observations are no vectors of floats.
    """

    def __init__(self, env: gym.Env[NDArray[Any], Any], permutation: Sequence[int]) -> None:
        space = _vector_space(env)
        size = space.shape[0]
        order = checks.permutation("permutation", permutation, size)
        gym.utils.RecordConstructorArgs.__init__(self, permutation=order)
        gym.ObservationWrapper.__init__(self, env)
        self.permutation = np.array(order, dtype=np.int64)
        self.observation_space = spaces.Box(
            space.low.min(), space.high.max(), (size,), dtype=space.dtype.type
        )

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Reorder the features of a `(d,)` observation."""
        permuted: NDArray[Any] = observation[self.permutation]
        return permuted


def _vector_space(env: gym.Env[Any, Any]) -> spaces.Box:
    space = env.observation_space
    vector = isinstance(space, spaces.Box) and len(space.shape) == 1
    if not vector or not np.issubdtype(space.dtype, np.floating):
        raise InputError(f"env={env}: must observe a vector of floats, not {space}", field="env")
    assert isinstance(space, spaces.Box)
    return space


WRAPPERS: tuple[type[gym.Wrapper[Any, Any, Any, Any]], ...] = (NoisyFeatures, PermuteObservation)
"""Those that a run can name, by the names of the classes."""


def noisy_size(size: int, fraction: SupportsFloat) -> int:
    """Return ceil(size / (1 - fraction)), free of rounding errors.

    `4 / (1 - 0.9)` is 40.000000000000014 in floating point; the size is 40.
    """
    return math.ceil(round(size / (1 - float(fraction)), 9))
