"""The latest transitions of an algorithm, wherever it keeps them.

A replay buffer is a ring of rows, one for each step of all its environments: the newest lies before
`pos`, and once the ring is full the oldest lies at `pos`. A rollout buffer is filled from row 0 on;
training merges its dimensions of steps and environments in place, environment after environment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

Ages = TypeVar("Ages", int, NDArray[np.int64])


def row_of(replay: ReplayBuffer, age: Ages) -> Ages:
    """Return the row of a replay buffer that holds the step of an age; the newest has age 0."""
    return (replay.pos - 1 - age) % replay.buffer_size


def steps_held(replay: ReplayBuffer) -> int:
    """Return the steps of each environment that a replay buffer can show.

    A full buffer that keeps each observation once has overwritten the oldest one.
    """
    return replay.size() - int(replay.optimize_memory_usage and replay.full)


def rollout_rows(rollout: RolloutBuffer, count: int) -> Callable[[Any], Any]:
    """Return what picks up to `count` rows of a rollout's arrays, spread evenly over the rollout.

    It takes an array as the buffer holds it, or a dictionary of them, and returns `(rows, ...)`.
    """
    size = rollout.pos * rollout.n_envs
    rows = np.linspace(0, size - 1, min(count, size)).astype(int)

    def pick(array: NDArray[Any]) -> NDArray[Any]:
        held = array if rollout.generator_ready else _merged(array[: rollout.pos])
        picked: NDArray[Any] = held[rows]
        return picked

    return lambda arrays: _each(pick, arrays)


def last_observed(model: BaseAlgorithm, count: int) -> tuple[Any, Tensor] | None:
    """Return up to `count` observations and the actions that were taken, as the networks see them.

    They are spread over the last rollout, or the latest in the replay buffer, in the order of time.
    None if nothing was observed yet.
    """
    if isinstance(model, OnPolicyAlgorithm):
        rollout = model.rollout_buffer
        if rollout.pos == 0:
            return None
        pick = rollout_rows(rollout, count)
        observations, actions = pick(rollout.observations), pick(rollout.actions)
    elif isinstance(model, OffPolicyAlgorithm) and model.replay_buffer is not None:
        replay = model.replay_buffer
        steps = min(steps_held(replay), -(-count // replay.n_envs))
        if steps == 0:
            return None
        rows = row_of(replay, np.arange(steps)[::-1])
        observations, actions = (
            _each(lambda array: _merged(array[rows])[-count:], arrays)
            for arrays in (replay.observations, replay.actions)
        )
        normalise = model.get_vec_normalize_env()
        if normalise is not None:
            observations = normalise.normalize_obs(observations)
    else:
        return None
    return (
        obs_as_tensor(_each(np.ascontiguousarray, observations), model.device),
        torch.as_tensor(actions, device=model.device).float(),
    )


def _each(function: Callable[[Any], Any], arrays: Any) -> Any:
    """Apply a function to an array, or to each of a dictionary of them."""
    if isinstance(arrays, dict):
        return {key: function(array) for key, array in arrays.items()}
    return function(arrays)


def _merged(array: NDArray[Any]) -> NDArray[Any]:
    """Merge the first two dimensions: `(steps, envs, ...)` to `(steps * envs, ...)`."""
    return array.reshape(-1, *array.shape[2:])
