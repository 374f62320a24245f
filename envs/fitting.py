"""One observation and one action space for environments that differ in them.

Observations are padded with zeros at the end. Discrete actions are as many as the largest number
there is; an environment with fewer takes the remainder. Continuous actions lie in [-1, 1], as many
dimensions as the largest number there is; an environment stretches the first of them to its own
range. Environments whose spaces are equal keep them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.spaces import vector_space
from sparse_core.checks import InputError


@dataclass(frozen=True)
class CommonSpaces:
    """Spaces that several environments can share.

    Attributes:
        observed: Of observations.
        acted: Of actions.
    """

    observed: spaces.Box
    acted: spaces.Space[Any]

    @classmethod
    def of(cls, envs: Sequence[gym.Env[Any, Any]]) -> CommonSpaces:
        """Find them.

        Raises:
            InputError: If an observation is no vector of floats, or the actions are of different
                kinds.
        """
        return cls(_observed([vector_space(env) for env in envs]), _acted(envs))

    def fit(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Give one of the environments these spaces; where it has them, it stays as it is."""
        if env.observation_space == self.observed and env.action_space == self.acted:
            return env
        return Fitted(env, self.observed, self.acted)


class Fitted(gym.Wrapper[Any, Any, Any, Any]):
    """An environment with the spaces that it shares with others.

    Args:
        env: One of the environments that the spaces are of.
        observed: Space of its observations.
        acted: Space of its actions.
    """

    def __init__(
        self, env: gym.Env[Any, Any], observed: spaces.Box, acted: spaces.Space[Any]
    ) -> None:
        super().__init__(env)
        self.observation_space = observed
        self.action_space = acted
        self._size = vector_space(env).shape[0]
        self._fits = env.action_space == acted

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._padded(observation), info

    def step(self, action: Any) -> tuple[NDArray[Any], Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        own = action if self._fits else self._own(action)
        observation, reward, terminated, truncated, info = self.env.step(own)
        return self._padded(observation), reward, terminated, truncated, info

    def _padded(self, observation: NDArray[Any]) -> NDArray[Any]:
        padded = np.zeros(self.observation_space.shape or 0, dtype=self.observation_space.dtype)
        padded[: self._size] = observation
        return padded

    def _own(self, action: Any) -> Any:
        """Return the environment's own action."""
        space = self.env.action_space
        if isinstance(space, spaces.Discrete):
            return int(space.start) + int(action) % int(space.n)
        assert isinstance(space, spaces.Box)
        share = (np.asarray(action, np.float64)[: space.shape[0]] + 1) / 2
        stretched = space.low + np.clip(share, 0, 1) * (space.high - space.low)
        return stretched.astype(space.dtype)


def _observed(own: Sequence[spaces.Box]) -> spaces.Box:
    if all(space == own[0] for space in own):
        return own[0]
    size = max(space.shape[0] for space in own)
    dtype = np.result_type(*[space.dtype for space in own])

    def padded(bound: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([bound, np.zeros(size - bound.size)]).astype(dtype)

    low = np.min([padded(space.low) for space in own], axis=0)
    high = np.max([padded(space.high) for space in own], axis=0)
    return spaces.Box(low, high, dtype=dtype.type)


def _acted(envs: Sequence[gym.Env[Any, Any]]) -> spaces.Space[Any]:
    own = [env.action_space for env in envs]
    if all(space == own[0] for space in own):
        return own[0]
    if all(isinstance(space, spaces.Discrete) for space in own):
        return spaces.Discrete(max(int(space.n) for space in own))  # type: ignore[attr-defined]
    for space in own:
        vector = isinstance(space, spaces.Box) and len(space.shape) == 1
        if not vector or not space.is_bounded("both"):  # type: ignore[attr-defined]
            said = ", ".join(f"{env}: {env.action_space}" for env in envs)
            raise InputError(
                "tasks: their actions cannot be reconciled, they must be equal, all discrete or "
                f"all bounded vectors, not {said}",
                field="tasks",
            )
    return spaces.Box(-1.0, 1.0, (max(space.shape[0] for space in own),))  # type: ignore[index]
