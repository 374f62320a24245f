"""Agents of the benchmark of reinforcement learning: what they learn from, and how it is timed.

Imports gymnasium, numpy and Stable-Baselines3 only, so that the Python of another library can run
it (`sweeps.bench.sbx_worker`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

OBSERVATIONS, ACTIONS = 17, 6
"""Sizes of HalfCheetah."""

EPISODE = 1000
"""Its steps of an episode."""

CAPACITY = 4096
"""Transitions in a replay buffer."""

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Times:
    """Seconds of a block.

    Attributes:
        steps: Of each environment step; on-policy, a step's share of a rollout and its update.
        trains: Of each call of `train`: a gradient step, or on-policy an update phase.
    """

    steps: list[float]
    trains: list[float]


class FreeEnv(gym.Env[Any, Any]):
    """Spaces and episodes of HalfCheetah's sizes; a step costs next to nothing."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBSERVATIONS,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (ACTIONS,), np.float32)

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._seen = rng.standard_normal((EPISODE + 1, OBSERVATIONS), np.float32)
        self._rewards = rng.standard_normal(EPISODE).tolist()
        self._step = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self._step = 0
        return self._seen[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go on, whatever the action."""
        reward = self._rewards[self._step]
        self._step += 1
        return self._seen[self._step], reward, False, self._step == EPISODE, {}


def arguments(algo: str) -> dict[str, Any]:
    """Return what the algorithms get beside their defaults, in every library."""
    off_policy: dict[str, Any] = dict(buffer_size=CAPACITY, learning_starts=0, batch_size=256)
    # TD3 of SBX has these by default and Stable-Baselines3's from version 2 on: a gradient step
    # for each step of the environment.
    steps: dict[str, Any] = dict(train_freq=1, gradient_steps=1)
    return {"seed": 0, "device": "cpu"} | ({} if algo == "ppo" else off_policy | steps)


class Learner:
    """Runs `learn()` in blocks and times it."""

    def __init__(self, model: Any, clock: str = "wall") -> None:
        """Take a model over; a replay buffer is filled with random transitions."""
        self.model, self._clock = model, CLOCKS[clock]
        self._off_policy = isinstance(model, OffPolicyAlgorithm)
        model.set_logger(Logger(None, []))
        if self._off_policy:
            fill(model.replay_buffer)
        self._stamps = Stamps(self._clock)
        self._trains: list[float] = []
        self._train = model.train
        model.train = self._timed_train

    @property
    def steps(self) -> int:
        """The environment steps of a rollout; off-policy 1."""
        return 1 if self._off_policy else int(self.model.n_steps)

    def block(self, steps: int) -> Times:
        """Learn for so many environment steps, or as many as a rollout has if those are more.

        What lies before the first of them, a call of `learn` and one action, is not counted.
        """
        steps = max(steps, self.steps)
        self._stamps.all, self._trains = [], []
        self.model.learn(steps, callback=self._stamps, reset_num_timesteps=False)
        stamps = self._stamps.all
        assert len(stamps) == steps + 1
        if self._off_policy:
            spent = [after - before for before, after in pairwise(stamps)]
        else:
            spent = [(stamps[-1] - stamps[0]) / steps]
        return Times(spent, self._trains)

    def _timed_train(self, *args: Any, **kwargs: Any) -> None:
        start = self._clock()
        self._train(*args, **kwargs)
        self._trains.append(self._clock() - start)


class Stamps(BaseCallback):
    """Notes the time of each step of the environment, and of the end of training."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self.all: list[float] = []

    def _on_step(self) -> bool:
        self.all.append(self._clock())
        return True

    def _on_training_end(self) -> None:
        self.all.append(self._clock())


def fill(buffer: Any) -> None:
    """Fill a replay buffer with random transitions."""
    random = np.random.default_rng(0)
    for array in (buffer.observations, buffer.next_observations, buffer.rewards):
        array[:] = random.standard_normal(array.shape)
    buffer.actions[:] = random.uniform(-1, 1, buffer.actions.shape)
    buffer.full = True
