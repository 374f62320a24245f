"""Measure what each wrapper of `envs` adds to a step: `python -m sweeps.bench.envs [--json FILE]`.

The environment below does nothing: it observes 17 numbers and takes 6, as HalfCheetah does. Exits
with 1 if a wrapper adds more than 5 microseconds. The least of many blocks counts, on a machine
that others may use.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from sweeps.bench.command import exit_code, output, plain_parser, positive
from sweeps.bench.timing import machine

BAR_US = 5.0
STEPS = 200
WALK = {"kind": "random-walk", "scale": 0.1, "every": 1000}
WAVE = {"kind": "sine", "amplitude": 0.5, "period": 1000}


def still(actions: Any) -> Any:
    """Return an environment that does nothing."""
    import gymnasium as gym
    import numpy as np

    class Still(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(-1, 1, (17,))
        action_space = actions

        def __init__(self) -> None:
            self.load = 1.0

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return np.zeros(17, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.zeros(17, np.float32), 1.0, False, False, {}

    return Still()


def contestants() -> Mapping[str, Callable[[Any], Any]]:
    """Return the wrappers with their settings."""
    import envs

    often: dict[str, Any] = {"every": 1000, "during_episodes": True}
    plans = {"load": WAVE}
    return {
        "NoisyFeatures 90 %": lambda env: envs.NoisyFeatures(env, 0.9),
        "NoisyFeatures 90 % empirical": lambda env: envs.NoisyFeatures(env, 0.9, "empirical"),
        "NoisyFeatures 90 % copy": lambda env: envs.NoisyFeatures(env, 0.9, "copy"),
        "NoisyFeatures 99 %": lambda env: envs.NoisyFeatures(env, 0.99),
        "NoisyFeatures 99 % empirical": lambda env: envs.NoisyFeatures(env, 0.99, "empirical"),
        "NoisyFeatures 99 % copy": lambda env: envs.NoisyFeatures(env, 0.99, "copy"),
        "PermuteObservation": lambda env: envs.PermuteObservation(env, **often),
        "SensorDropout 30 %": lambda env: envs.SensorDropout(env, 0.3, **often),
        "ObservationScaleDrift walk": lambda env: envs.ObservationScaleDrift(
            env, WALK, during_episodes=True
        ),
        "ObservationScaleDrift wave": lambda env: envs.ObservationScaleDrift(
            env, WAVE, during_episodes=True
        ),
        "ActionPermutation": lambda env: envs.ActionPermutation(env, **often),
        "RewardFlip": lambda env: envs.RewardFlip(env, **often),
        "DynamicsSchedule": lambda env: envs.DynamicsSchedule(env, plans),
        "DynamicsSchedule each step": lambda env: envs.DynamicsSchedule(env, plans, True),
    }


def step_us(env: Any, rounds: int) -> float:
    """Return the microseconds of a step, in the fastest block."""
    env.reset(seed=0)
    env.action_space.seed(0)
    action = env.action_space.sample()
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(STEPS):
            env.step(action)
        best = min(best, time.perf_counter() - start)
    return 1e6 * best / STEPS


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 1 if a wrapper adds too much."""
    parser = plain_parser("sweeps.bench.envs", __doc__)
    parser.add_argument("--json", type=output, metavar="FILE", help="write microseconds to it")
    parser.add_argument("--rounds", type=positive, default=300, help="blocks of 200 steps")
    given = parser.parse_args(arguments)

    from gymnasium import spaces

    for key, value in machine().items():
        print(f"{key}: {value}")
    actions = spaces.Box(-1, 1, (6,))
    bare = step_us(still(actions), given.rounds)
    print(f"{'bare':30s}{bare:6.2f} us a step")
    added = {}
    for name, wrap in contestants().items():
        added[name] = step_us(wrap(still(actions)), given.rounds) - bare
        print(f"{name:30s}{added[name]:+6.2f}{'  OVER' if added[name] > BAR_US else ''}")
    if given.json:
        given.json.write_text(json.dumps(added, indent=1) + "\n")
    return 1 if max(added.values()) > BAR_US else 0


if __name__ == "__main__":
    sys.exit(exit_code("sweeps.bench.envs", main))
