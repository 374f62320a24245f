"""Wrappers whose agent's actions come to mean something else, or to be worth something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.drift import Regimes
from sparse_core import checks
from sparse_core.checks import InputError


class ActionPermutation(Regimes):
    """Actions trade places: discrete ones, or the dimensions of continuous ones.

    Action i of the agent is action `permutation[i]` of the environment; of a continuous action,
    dimension i of what the environment is told is dimension `permutation[i]` of the agent's.

    Args:
        env: An environment whose actions are discrete, or vectors with the same bounds throughout.
        permutation: In the beginning; empty: the order as it is.
        every: Steps after which another order is drawn; None: never.
        during_episodes: Change within episodes too, not only at resets.
        world: Seed of what changes; None: the seed given to `reset`.

    Raises:
        InputError: If that is no permutation, or there is nothing that could trade places.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        permutation: Sequence[int] = (),
        every: int | None = None,
        during_episodes: bool = False,
        world: int | None = None,
    ) -> None:
        size = _exchangeable(env)
        as_is = isinstance(permutation, (list, tuple)) and not permutation
        given = range(size) if as_is else permutation
        self._given = checks.permutation("permutation", given, size)
        super().__init__(env, every, during_episodes, world)
        gym.utils.RecordConstructorArgs.__init__(
            self,
            permutation=() if as_is else self._given,
            every=self.every,
            during_episodes=during_episodes,
            world=self.world,
        )
        space = env.action_space
        self._discrete = isinstance(space, spaces.Discrete)
        self._start = int(space.start) if isinstance(space, spaces.Discrete) else 0
        self._first()

    def action(self, action: Any) -> Any:
        """Put an action in the place of another; what is no action is left to the environment."""
        if not self._discrete:
            return np.asarray(action)[self._indices]
        place = action - self._start
        return self._start + self.permutation[place] if 0 <= place < self._size else action

    def _first(self) -> None:
        self._set(self._given)

    def _next(self) -> None:
        self._set(self._another(self.permutation))

    def _set(self, order: tuple[int, ...]) -> None:
        self.permutation = order
        self._size = len(order)
        self._indices = np.array(order, dtype=np.int64)


class RewardFlip(Regimes):
    """Rewards change their sign every so many steps: what was good is bad.

    Args:
        env: Any environment.
        every: Steps that a sign holds; None: rewards stay as they are.
        during_episodes: Change within episodes too, not only at resets.
        world: Seed of what changes; None: the seed given to `reset`.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        every: int | None = None,
        during_episodes: bool = False,
        world: int | None = None,
    ) -> None:
        super().__init__(env, every, during_episodes, world)
        gym.utils.RecordConstructorArgs.__init__(
            self, every=self.every, during_episodes=during_episodes, world=self.world
        )

    def reward(self, reward: SupportsFloat) -> SupportsFloat:
        """Return the reward, or its opposite in odd regimes."""
        return -float(reward) if self._regime % 2 else reward

    def _first(self) -> None:
        """Nothing is drawn."""

    def _next(self) -> None:
        """Nothing is drawn."""


def _exchangeable(env: gym.Env[Any, Any]) -> int:
    """Return how many actions, or dimensions of an action, can trade places."""
    space = env.action_space
    if isinstance(space, spaces.Discrete) and space.n > 1:
        return int(space.n)
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] > 1:
        if len(set(space.low.tolist())) == len(set(space.high.tolist())) == 1:
            return space.shape[0]
    raise InputError(
        f"env={env}: must have two discrete actions or more, or several dimensions of one range, "
        f"not {space}",
        field="env",
    )
