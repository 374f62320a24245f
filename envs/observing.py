"""Wrappers whose agent comes to observe the same world otherwise: orders, dead sensors, scales."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs import schedules
from envs.drift import Drifting, Regimes
from envs.spaces import box, vector_space
from sparse_core import checks
from sparse_core.checks import InputError


class PermuteObservation(Regimes):
    """Observe the same features in another order, a new one every so many steps if asked.

    All features get the loosest of their bounds, so that environments that differ in the order only
    have one observation space: one policy can act in all of them.

    Args:
        env: An environment whose observations are vectors.
        permutation: Feature i of the new observation is feature `permutation[i]` of the old one,
            in the beginning; empty: the order as it is.
        every: Steps after which another order is drawn; None: never.
        during_episodes: Change within episodes too, not only at resets.
        world: Seed of what changes; None: the seed given to `reset`.

    Raises:
        InputError: If that is no permutation, or the observations are no vectors of floats.
    """

    def __init__(
        self,
        env: gym.Env[NDArray[Any], Any],
        permutation: Sequence[int] = (),
        every: int | None = None,
        during_episodes: bool = False,
        world: int | None = None,
    ) -> None:
        space = vector_space(env)
        size = space.shape[0]
        as_is = isinstance(permutation, (list, tuple)) and not permutation
        given = range(size) if as_is else permutation
        self._given = checks.permutation("permutation", given, size)
        if every is not None and size < 2:
            raise InputError(f"env={env}: has one feature, which has one order", field="env")
        super().__init__(env, every, during_episodes, world)
        gym.utils.RecordConstructorArgs.__init__(
            self,
            permutation=() if as_is else self._given,
            every=self.every,
            during_episodes=during_episodes,
            world=self.world,
        )
        self.observation_space = box(
            np.full(size, space.low.min()), np.full(size, space.high.max()), space
        )
        self._first()

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Reorder the features of a `(d,)` observation."""
        permuted: NDArray[Any] = observation[self.permutation]
        return permuted

    def _first(self) -> None:
        self._set(self._given)

    def _next(self) -> None:
        self._set(self._another(self._order))

    def _set(self, order: tuple[int, ...]) -> None:
        self._order = order
        self.permutation = np.array(order, dtype=np.int64)


class SensorDropout(Regimes):
    """Some sensors are dead and read 0; every so many steps others are.

    Args:
        env: An environment whose observations are vectors.
        fraction: Of the features, in [0, 1); rounded down to whole ones.
        every: Steps after which the dead ones are drawn anew; None: never.
        during_episodes: Change within episodes too, not only at resets.
        world: Seed of what changes; None: the seed given to `reset`.

    Attributes:
        alive: (d,) bool, which sensors work.

    Raises:
        InputError: If the fraction is out of range, or the observations are no vectors of floats.
    """

    def __init__(
        self,
        env: gym.Env[NDArray[Any], Any],
        fraction: float,
        every: int | None = None,
        during_episodes: bool = False,
        world: int | None = None,
    ) -> None:
        share = checks.fraction("fraction", fraction)
        space = vector_space(env)
        super().__init__(env, every, during_episodes, world)
        gym.utils.RecordConstructorArgs.__init__(
            self,
            fraction=share,
            every=self.every,
            during_episodes=during_episodes,
            world=self.world,
        )
        self.dead = math.floor(round(share * space.shape[0], 9))
        self.alive = np.ones(space.shape[0], dtype=bool)
        self._gone = np.zeros(0, dtype=np.int64)
        if self.dead:
            self.observation_space = box(np.minimum(space.low, 0), np.maximum(space.high, 0), space)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Silence the dead sensors of a `(d,)` observation."""
        if self.dead:
            observation = observation.copy()
            observation[self._gone] = 0
        return observation

    def _first(self) -> None:
        self._gone = self._rng.permutation(self.alive.size)[: self.dead]
        self.alive = np.ones(self.alive.size, dtype=bool)
        self.alive[self._gone] = False

    def _next(self) -> None:
        self._first()


class ObservationScaleDrift(Drifting):
    """The scale of what sensors read drifts.

    Args:
        env: An environment whose observations are vectors.
        schedule: Of the factor: a schedule, or a mapping of its kind and its settings. In a random
            walk each feature walks by itself.
        features: Numbers of those that drift; None: all.
        during_episodes: Change within episodes too, not only at resets.
        world: Seed of what changes; None: the seed given to `reset`.

    Attributes:
        factors: (d,), by which the features are multiplied at present.

    Raises:
        InputError: If it is no schedule, there is no such feature, or the observations are no
            vectors of floats.
    """

    def __init__(
        self,
        env: gym.Env[NDArray[Any], Any],
        schedule: Any,
        features: Sequence[int] | None = None,
        during_episodes: bool = False,
        world: int | None = None,
    ) -> None:
        space = vector_space(env)
        self.schedule = schedules.schedule("schedule", schedule)
        self.features = _features(features, space.shape[0])
        super().__init__(env, during_episodes, world)
        gym.utils.RecordConstructorArgs.__init__(
            self,
            schedule=schedules.as_mapping(self.schedule),
            features=None if features is None else self.features,
            during_episodes=during_episodes,
            world=self.world,
        )
        self.factors = np.ones(space.shape[0], dtype=space.dtype)
        self._all = tuple(range(space.shape[0]))
        self._which = np.array(self.features, dtype=np.int64)
        self._drawn: NDArray[np.float64] | None = None
        self._said: tuple[float, ...] = ()
        ends = []
        for bound in self.schedule.bounds:
            scale = self.factors.copy()
            scale[self._which] = bound
            with np.errstate(over="ignore"):
                ends += [space.low * scale, space.high * scale]
        self.observation_space = box(np.min(ends, axis=0), np.max(ends, axis=0), space)

    @property
    def regime(self) -> tuple[float, ...]:
        """The factors of the features that drift."""
        return self._said

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Scale a `(d,)` observation."""
        scaled: NDArray[Any] = observation * self.factors
        return scaled

    def _begin(self, rng: np.random.Generator) -> None:
        self._path = self.schedule.path(rng, len(self.features))
        self._drawn = None

    def _jumping(self) -> Iterable[tuple[str, ...]]:
        return [()] if schedules.jumps(self.schedule) else []

    def _turn(self) -> None:
        drawn = self._path(self.clock)
        if drawn is not self._drawn:
            self._drawn = drawn
            if self.features == self._all:
                self.factors = drawn.astype(self.factors.dtype)
            else:
                self.factors[self._which] = drawn
            self._said = tuple(drawn.tolist())


def _features(value: Sequence[int] | None, size: int) -> tuple[int, ...]:
    if value is None:
        return tuple(range(size))
    numbers = [checks.whole("features", one, 0) for one in value]
    if not numbers or max(numbers) >= size or len(set(numbers)) < len(numbers):
        raise InputError(
            f"features={value!r}: must be some of 0 to {size - 1}, each once", field="features"
        )
    return tuple(numbers)
