"""Sequences of tasks for continual reinforcement learning.

All tasks of a sequence have the same observation and action space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from envs.dynamics import CARTPOLE, MAX_RETURN, check_physics
from envs.wrappers import PermuteObservation

PHYSICS = ("length", "masspole", "gravity", "force_mag")


@dataclass(frozen=True)
class CartPoleTask:
    """CartPole with its own physics and its own order of the observed features.

    Attributes:
        length: Half the pole's length, m.
        masspole: Mass of the pole, kg.
        gravity: m/s².
        force_mag: Force of a push, N.
        permutation: Which of position, velocity, angle and angular velocity is observed where.
    """

    length: float = 0.5
    masspole: float = 0.1
    gravity: float = 9.8
    force_mag: float = 10.0
    permutation: tuple[int, ...] = (0, 1, 2, 3)

    def __post_init__(self) -> None:
        check_physics(self._physics())
        object.__setattr__(self, "permutation", tuple(self.permutation))
        if sorted(self.permutation) != [0, 1, 2, 3]:
            raise ValueError(f"permutation={self.permutation!r}: must be 0 to 3 in some order")

    def make(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the environment."""
        env = gym.make(CARTPOLE, render_mode=render_mode, **self._physics())
        return PermuteObservation(env, self.permutation)

    def performance(self, mean_return: float) -> float:
        """Map a mean return to [0, 1], 1 being the best there is."""
        return mean_return / MAX_RETURN

    def _physics(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in PHYSICS}


SEQUENCES: Mapping[str, tuple[CartPoleTask, ...]] = {
    "cartpole-physics": (
        CartPoleTask(),
        CartPoleTask(length=1.5, masspole=0.5),
        CartPoleTask(gravity=20.0, force_mag=20.0),
    ),
    "cartpole-permuted": (
        CartPoleTask(),
        CartPoleTask(permutation=(2, 3, 0, 1)),
        CartPoleTask(permutation=(3, 0, 1, 2)),
    ),
    "cartpole": (
        CartPoleTask(),
        CartPoleTask(length=1.5, masspole=0.5, permutation=(2, 3, 0, 1)),
        CartPoleTask(gravity=20.0, force_mag=20.0, permutation=(3, 0, 1, 2)),
    ),
}
"""Name -> tasks: other physics, other orders of the features, both."""


def sequence(name: str, repeats: int = 1) -> tuple[CartPoleTask, ...]:
    """Return the tasks of a sequence, all of them `repeats` times over.

    Args:
        name: A key of `SEQUENCES`.
        repeats: 2 asks for each task twice, as CW20 of Continual World does.

    Raises:
        ValueError: If there is no such sequence, or there are no repeats.
    """
    if name not in SEQUENCES:
        raise ValueError(f"sequence={name!r}: must be one of {', '.join(SEQUENCES)}")
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        raise ValueError(f"repeats={repeats!r}: must be an integer of at least 1")
    return SEQUENCES[name] * repeats
