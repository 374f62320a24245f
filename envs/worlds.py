"""Ready-made worlds, known to Gymnasium as `worlds/...` once `envs` is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import WrapperSpec

from envs.dynamics import MAX_RETURN, PENDULUM_STEPS
from envs.minatar import GAMES
from envs.moving import DynamicsSchedule
from envs.noise import NoisyFeatures
from envs.observing import PermuteObservation
from envs.sequences import SEQUENCES

TASK_STEPS = 50_000
"""Steps of a task of classic control."""

_WALK = {"kind": "random-walk", "scale": 0.1, "every": 1000}


@dataclass(frozen=True)
class World:
    """An environment to register.

    Attributes:
        id: Gymnasium's.
        summary: A line on what it is.
        made_by: `module:NAME` of what makes it.
        settings: Arguments of that.
        wrappers: Around it, the innermost first.
        steps: Of the longest episode; None: the tasks have their own.
    """

    id: str
    summary: str
    made_by: str = "envs.tasks:TaskSequence"
    settings: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[WrapperSpec, ...] = ()
    steps: int | None = None


WORLDS = (
    *(
        World(
            f"worlds/{name}-v0",
            f"sequence {name}, {TASK_STEPS} steps a task",
            settings={"tasks": name, "every": TASK_STEPS},
        )
        for name in SEQUENCES
    ),
    World(
        "worlds/continuous-control-v0",
        f"Pendulum, MountainCarContinuous, {TASK_STEPS} steps each, padded",
        settings={"tasks": ("Pendulum-v1", "MountainCarContinuous-v0"), "every": TASK_STEPS},
    ),
    World(
        "worlds/cartpole-drifting-v0",
        "CartPole whose length, masspole and gravity walk at random",
        made_by="gymnasium.envs.classic_control.cartpole:CartPoleEnv",
        wrappers=(
            DynamicsSchedule.wrapper_spec(
                parameters={"length": _WALK, "masspole": _WALK, "gravity": _WALK}
            ),
        ),
        steps=int(MAX_RETURN),
    ),
    World(
        "worlds/pendulum-drifting-v0",
        "Pendulum whose mass and length go up and down in waves",
        made_by="gymnasium.envs.classic_control.pendulum:PendulumEnv",
        wrappers=(
            DynamicsSchedule.wrapper_spec(
                parameters={
                    "mass": {"kind": "sine", "amplitude": 0.5, "period": 20_000},
                    "length": {"kind": "sine", "amplitude": 0.3, "period": 50_000},
                }
            ),
        ),
        steps=PENDULUM_STEPS,
    ),
    World(
        "worlds/cartpole-noisy-permuted-v0",
        f"CartPole, 90 % of the features noise, all in a new order every {TASK_STEPS} steps",
        made_by="gymnasium.envs.classic_control.cartpole:CartPoleEnv",
        wrappers=(
            NoisyFeatures.wrapper_spec(fraction=0.9),
            PermuteObservation.wrapper_spec(every=TASK_STEPS),
        ),
        steps=int(MAX_RETURN),
    ),
    World(
        "worlds/ant-slippery-v0",
        "Ant whose friction is drawn anew every 2 million steps (needs MuJoCo)",
        made_by="gymnasium.envs.mujoco.ant_v5:AntEnv",
        wrappers=(
            DynamicsSchedule.wrapper_spec(
                parameters={
                    "friction": {
                        "kind": "random-walk",
                        "scale": 100.0,  # so far that it lands anywhere between the bounds
                        "every": 2_000_000,
                        "low": 0.02,
                        "high": 2.0,
                    }
                }
            ),
        ),
        steps=1000,
    ),
    *(
        World(
            f"worlds/minatar-{game.replace('_', '-')}-v0",
            f"MinAtar's {game.replace('_', ' ').title()} (needs the extra minatar)",
            made_by="envs.minatar:minatar",
            settings={"game": game},
        )
        for game in GAMES
    ),
)
"""All of them."""


def register() -> None:
    """Make the worlds known to Gymnasium."""
    for world in WORLDS:
        gym.register(
            world.id,
            entry_point=world.made_by,
            max_episode_steps=world.steps,
            kwargs=dict(world.settings),
            additional_wrappers=world.wrappers,
        )
