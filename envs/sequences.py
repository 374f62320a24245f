"""Sequences of tasks for continual reinforcement learning.

All tasks of a sequence have the same observation and action space. Sequences of other environments
are named by an import string, `package.module:NAME` of a tuple of tasks.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import gymnasium as gym

from envs.dynamics import CARTPOLE, MAX_RETURN, check_physics
from envs.wrappers import PermuteObservation
from sparse_core.checks import InputError


class Task(Protocol):
    """What a task of a sequence must have.

    Attributes:
        tuned: Gymnasium's id of the environment whose tuned hyper-parameters suit it.
    """

    tuned: ClassVar[str]

    def make(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the environment."""

    def performance(self, mean_return: float) -> float:
        """Map a mean return to [0, 1], 1 being the best there is."""


def _order(permutation: tuple[int, ...], size: int) -> tuple[int, ...]:
    if sorted(permutation) != list(range(size)):
        raise InputError(
            f"permutation={permutation!r}: must be 0 to {size - 1} in some order",
            field="permutation",
        )
    return tuple(permutation)


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

    tuned: ClassVar[str] = "CartPole-v1"

    def __post_init__(self) -> None:
        check_physics(self._physics())
        object.__setattr__(self, "permutation", _order(self.permutation, 4))

    def make(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the environment."""
        env = gym.make(CARTPOLE, render_mode=render_mode, **self._physics())
        return PermuteObservation(env, self.permutation)

    def performance(self, mean_return: float) -> float:
        """Map a mean return to [0, 1], 1 being the best there is."""
        return mean_return / MAX_RETURN

    def _physics(self) -> dict[str, Any]:
        names = ("length", "masspole", "gravity", "force_mag")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class PendulumTask:
    """Pendulum-v1, whose actions are continuous, with its own physics and order of features.

    Attributes:
        gravity: m/s².
        mass: kg.
        length: m.
        permutation: Which of cosine, sine and angular velocity is observed where.
    """

    gravity: float = 10.0
    mass: float = 1.0
    length: float = 1.0
    permutation: tuple[int, ...] = (0, 1, 2)

    tuned: ClassVar[str] = "Pendulum-v1"

    def __post_init__(self) -> None:
        check_physics({name: getattr(self, name) for name in ("gravity", "mass", "length")})
        object.__setattr__(self, "permutation", _order(self.permutation, 3))

    def make(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the environment."""
        env = gym.make("Pendulum-v1", render_mode=render_mode, g=self.gravity)
        pendulum: Any = env.unwrapped
        pendulum.m, pendulum.l = self.mass, self.length
        return PermuteObservation(env, self.permutation)

    def performance(self, mean_return: float) -> float:
        """Map a mean return to [0, 1]: 0 is what a pendulum that hangs still earns, 200 pi^2."""
        return max(0.0, 1 + mean_return / (200 * math.pi**2))


_CARTPOLES = (
    CartPoleTask(),
    CartPoleTask(length=1.5, masspole=0.5, permutation=(2, 3, 0, 1)),
    CartPoleTask(gravity=20.0, force_mag=20.0, permutation=(3, 0, 1, 2)),
)

SEQUENCES: Mapping[str, tuple[Task, ...]] = {
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
    "cartpole": _CARTPOLES,
    "cartpole-twice": _CARTPOLES * 2,
    "pendulum": (
        PendulumTask(),
        PendulumTask(mass=0.5, length=1.5, permutation=(1, 2, 0)),
        PendulumTask(gravity=5.0, permutation=(2, 0, 1)),
    ),
}
"""Name -> tasks: other physics, other orders of the features, both; each task once or twice."""


def sequence(name: str) -> tuple[Task, ...]:
    """Return the tasks of a sequence.

    Args:
        name: A key of `SEQUENCES`, or `package.module:NAME` of a tuple of tasks.

    Raises:
        ValueError: If there is no such sequence.
    """
    if name in SEQUENCES:
        return SEQUENCES[name]
    module, colon, attribute = str(name).partition(":")
    if not colon:
        known = ", ".join(SEQUENCES)
        raise InputError(
            f"sequence={name!r}: must be one of {known}, or package.module:NAME", field="sequence"
        )
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", name):
        raise InputError(f"sequence={name!r}: must be like package.module:NAME", field="sequence")
    try:
        tasks = tuple(getattr(importlib.import_module(module), attribute))
    except ImportError as error:
        raise InputError(
            f"sequence={name!r}: {' '.join(str(error).split())}", field="sequence"
        ) from None
    except (AttributeError, TypeError):
        raise InputError(
            f"sequence={name!r}: {module} has no tuple {attribute!r}", field="sequence"
        ) from None
    lacking = [task for task in tasks if not _is_task(task)]
    if lacking or not tasks:
        wrong = f", not {lacking[0]!r}" if lacking else ""
        raise InputError(
            f"sequence={name!r}: must hold tasks, which have make, performance and tuned{wrong}",
            field="sequence",
        )
    return tasks


def _is_task(task: object) -> bool:
    methods = all(callable(getattr(task, name, None)) for name in ("make", "performance"))
    return methods and isinstance(getattr(task, "tuned", None), str)
