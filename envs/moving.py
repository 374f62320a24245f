"""A wrapper whose physics drift: masses, gravity, friction and the like follow schedules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from envs.drift import Drifting
from envs.physics import physics
from envs.schedules import Path, as_mapping, jumps, schedule
from sparse_core.checks import InputError


class DynamicsSchedule(Drifting):
    """Parameters of the physics follow schedules; what follows from them is computed anew.

    A schedule gives the factor by which what the environment came with is multiplied. Each random
    walk has a stream of its own.

    Args:
        env: One of Gymnasium's classic control environments, a MuJoCo environment, or any other;
            `envs.physics` says what each can change.
        parameters: Name -> a schedule, or a mapping of its kind and its settings.
        during_episodes: Change within episodes too, not only at resets.
        world: Seed of what changes; None: the seed given to `reset`.

    Raises:
        InputError: If the environment lacks a parameter, or something is no schedule.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        parameters: Mapping[str, Any],
        during_episodes: bool = False,
        world: int | None = None,
    ) -> None:
        if not isinstance(parameters, Mapping) or not parameters:
            raise InputError(
                f"parameters={parameters!r}: must be a mapping of names to schedules",
                field="parameters",
            )
        names = tuple(parameters)
        self._physics = physics(env.unwrapped, names)
        self.schedules = {name: schedule(f"parameters.{name}", parameters[name]) for name in names}
        super().__init__(env, during_episodes, world)
        gym.utils.RecordConstructorArgs.__init__(
            self,
            parameters={name: as_mapping(plan) for name, plan in self.schedules.items()},
            during_episodes=during_episodes,
            world=self.world,
        )
        self._paths: dict[str, Path] = {}
        self._factors: dict[str, float] = dict.fromkeys(names, 1.0)

    @property
    def regime(self) -> dict[str, float]:
        """The factor of each parameter."""
        return dict(self._factors)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with the physics as they then are."""
        self._factors = {}
        return super().reset(seed=seed, options=options)

    def _begin(self, rng: np.random.Generator) -> None:
        streams = rng.spawn(len(self.schedules))
        self._paths = {
            name: plan.path(stream, 1)
            for (name, plan), stream in zip(self.schedules.items(), streams, strict=True)
        }

    def _jumping(self) -> Iterable[tuple[str, ...]]:
        return [(name,) for name, plan in self.schedules.items() if jumps(plan)]

    def _turn(self) -> None:
        factors = {name: float(path(self.clock)[0]) for name, path in self._paths.items()}
        if factors != self._factors:
            self._factors = factors
            self._physics.apply(factors)
