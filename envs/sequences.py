"""Sequences of tasks for continual reinforcement learning.

All tasks of a sequence have the same observation and action space. Sequences of other environments
are named by an import string, `package.module:NAME` of a tuple of tasks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import gymnasium as gym

from envs.dynamics import CARTPOLE, MAX_RETURN, PENDULUM
from envs.fitting import CommonSpaces
from envs.observing import PermuteObservation
from sparse_core.checks import InputError, permutation, positive_float
from sparse_core.imports import load


class Task(Protocol):
    """What a task of a sequence must have."""

    @property
    def tuned(self) -> str:
        """Gymnasium's id of the environment whose tuned hyper-parameters suit it."""

    def make(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the environment."""

    def performance(self, mean_return: float) -> float:
        """Map a mean return to [0, 1], 1 being the best there is."""


def _settle(task: Any, physics: tuple[str, ...], features: int) -> None:
    """Check a task's numbers and keep them as Python's own."""
    for name in physics:
        object.__setattr__(task, name, positive_float(name, getattr(task, name)))
    order = permutation("permutation", task.permutation, features)
    object.__setattr__(task, "permutation", order)


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
        _settle(self, ("length", "masspole", "gravity", "force_mag"), 4)

    def make(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the environment."""
        env = gym.make(
            CARTPOLE,
            render_mode=render_mode,
            length=self.length,
            masspole=self.masspole,
            gravity=self.gravity,
            force_mag=self.force_mag,
        )
        return PermuteObservation(env, self.permutation)

    def performance(self, mean_return: float) -> float:
        """Map a mean return to [0, 1], 1 being the best there is."""
        return mean_return / MAX_RETURN


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
        _settle(self, ("gravity", "mass", "length"), 3)

    def make(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the environment."""
        env = gym.make(
            PENDULUM,
            render_mode=render_mode,
            gravity=self.gravity,
            mass=self.mass,
            length=self.length,
        )
        return PermuteObservation(env, self.permutation)

    def performance(self, mean_return: float) -> float:
        """Map a mean return to [0, 1]: 0 is what a pendulum that hangs still earns, 200 pi^2.

        NaN stays NaN: a diverged policy has no performance.
        """
        performance = 1 + mean_return / (200 * math.pi**2)
        return 0.0 if performance < 0 else performance


@dataclass(frozen=True)
class FittedTask:
    """An environment of Gymnasium with the spaces that it shares with others.

    Attributes:
        env: Gymnasium's id.
        beside: Ids of all environments of the sequence, whose spaces are reconciled.
        worst: Return that is worth nothing, such as that of never reaching the goal.
        best: Return that is worth 1.
    """

    env: str
    beside: tuple[str, ...]
    worst: float
    best: float

    @property
    def tuned(self) -> str:
        """Gymnasium's id of the environment whose tuned hyper-parameters suit it: its own."""
        return self.env

    def make(self, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Make the environment."""
        common = CommonSpaces.of([gym.make(name) for name in self.beside])
        return common.fit(gym.make(self.env, render_mode=render_mode))

    def performance(self, mean_return: float) -> float:
        """Map a mean return to [0, 1]; NaN stays NaN: a diverged policy has no performance."""
        performance = (mean_return - self.worst) / (self.best - self.worst)
        return 0.0 if performance < 0 else 1.0 if performance > 1 else performance


_CLASSIC = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0")

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
    "classic-control": (
        FittedTask(_CLASSIC[0], _CLASSIC, worst=0.0, best=MAX_RETURN),
        FittedTask(_CLASSIC[1], _CLASSIC, worst=-500.0, best=0.0),
        FittedTask(_CLASSIC[2], _CLASSIC, worst=-200.0, best=0.0),
    ),
}
"""Name -> tasks: other physics, other orders of the features, both; each task once or twice; other
environments."""


def sequence(name: str) -> tuple[Task, ...]:
    """Return the tasks of a sequence.

    Args:
        name: A key of `SEQUENCES`, or `package.module:NAME` of a tuple of tasks.

    Raises:
        ValueError: If there is no such sequence.
    """
    if not isinstance(name, str):
        raise InputError(f"sequence={name!r}: must be text", field="sequence")
    if name in SEQUENCES:
        return SEQUENCES[name]
    if ":" not in name:
        known = ", ".join(SEQUENCES)
        raise InputError(
            f"sequence={name!r}: must be one of {known}, or package.module:NAME", field="sequence"
        )
    tasks = tuple(load("sequence", name, "a tuple of tasks", _is_iterable))
    lacking = [task for task in tasks if not _is_task(task)]
    if lacking or not tasks:
        wrong = f", not {lacking[0]!r}" if lacking else ""
        wrong += " (a class: give an instance)" if lacking and isinstance(lacking[0], type) else ""
        raise InputError(
            f"sequence={name!r}: must hold tasks, which have make, performance and tuned{wrong}",
            field="sequence",
        )
    return tasks


def _is_iterable(found: object) -> bool:
    return isinstance(found, Iterable)


def _is_task(task: object) -> bool:
    methods = all(callable(getattr(task, name, None)) for name in ("make", "performance"))
    return not isinstance(task, type) and methods and isinstance(getattr(task, "tuned", None), str)
