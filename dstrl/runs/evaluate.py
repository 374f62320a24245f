"""Evaluation on environments of its own, seeded apart from training.

An evaluation plays one episode in each of several environments at once, with deterministic actions.
Its environments are seeded anew each time, by the run's seed and the number of the evaluation, so
it does not depend on what was evaluated before. A world that drifts is as it is in training at that
time; where each episode has another task, the tasks are evaluated in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from dstrl.seeds import derive


class Evaluator:
    """Plays episodes and returns what they earned.

    Args:
        make: Makes one environment.
        episodes: Episodes of an evaluation.
        seed: The run's seed.
    """

    def __init__(self, make: Callable[[], gym.Env[Any, Any]], episodes: int, seed: int) -> None:
        self.seed = seed
        self.envs = DummyVecEnv([make] * episodes)
        first = self.envs.envs[0]
        self._drifts = first.has_wrapper_attr("set_clock")
        spread = (
            first.get_wrapper_attr("spread")(episodes) if first.has_wrapper_attr("spread") else None
        )
        self._tasks = [{"task": task} for task in spread] if spread else [{}] * episodes

    def __call__(self, model: BaseAlgorithm, index: int) -> NDArray[np.float64]:
        """Return `(episodes,)` undiscounted returns of evaluation number `index`."""
        normalise = model.get_vec_normalize_env()

        def act(observations: Any) -> Any:
            actions, _ = model.predict(_seen(normalise, observations), deterministic=True)
            return actions

        return self._play(model, act, derive(self.seed, "evaluation", index))

    def at_random(self, model: BaseAlgorithm) -> NDArray[np.float64]:
        """Return `(episodes,)` undiscounted returns of uniformly random actions.

        The world is as it is at this time of the model's training.
        """
        space = self.envs.action_space
        space.seed(derive(self.seed, "random actions"))
        count = self.envs.num_envs

        def act(observations: Any) -> Any:
            return np.stack([space.sample() for _ in range(count)])

        return self._play(model, act, derive(self.seed, "random episodes"))

    def _play(
        self, model: BaseAlgorithm, act: Callable[[Any], Any], seed: int
    ) -> NDArray[np.float64]:
        self.envs.seed(seed)
        lived = model.get_env()
        if self._drifts and lived is not None and lived.has_attr("set_clock"):
            clock = lived.get_attr("clock")[0]
            self.envs.set_options([{"clock": clock} | task for task in self._tasks])
        observations = self.envs.reset()
        returns = np.zeros(self.envs.num_envs)
        playing = np.ones(self.envs.num_envs, dtype=bool)
        while playing.any():
            observations, rewards, dones, _ = self.envs.step(act(observations))
            returns += rewards * playing
            playing &= ~dones
        return returns

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()


def _seen(normalise: VecNormalize | None, observations: Any) -> Any:
    return observations if normalise is None else normalise.normalize_obs(observations)
