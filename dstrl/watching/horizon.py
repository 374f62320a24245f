"""How many optimizer steps a call of `learn` will do, by network.

A topology is updated every so many *optimizer* steps and its schedule ends at a fraction of the
whole training, while `learn` counts environment steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from sparse_core import Engine


def lengthen(model: BaseAlgorithm, engines: Mapping[str, Engine], steps: int) -> None:
    """Tell the schedules of a training that it is of so many environment steps from its beginning.

    Args:
        model: The algorithm, which has trained already.
        engines: Of its networks, by name.
        steps: Environment steps of the whole training.
    """
    model._total_timesteps = steps
    for name, engine in engines.items():
        length = optimizer_steps(model, name, from_start=True)
        if length and engine.config.horizon is None:
            engine.set_horizon(length)


def optimizer_steps(model: BaseAlgorithm, network: str, *, from_start: bool = False) -> int | None:
    """Return the optimizer steps that are still to come for one network.

    It is an upper bound where an algorithm may stop an epoch early (`target_kl`).

    Args:
        model: An algorithm inside `learn`.
        network: `policy`, `actor`, `critic` or `q_net`.
        from_start: Count those that were done as well.

    Returns:
        None if it cannot be known, which is so if training of a fixed number of steps follows each
        episode. With as many gradient steps as environment steps after each episode it is right but
        for one episode.
    """
    done = 0 if from_start else model.num_timesteps
    remaining = max(0, model._total_timesteps - done)
    if isinstance(model, OnPolicyAlgorithm):
        return _on_policy(model, remaining)
    if isinstance(model, OffPolicyAlgorithm):
        updates = 0 if from_start else model._n_updates
        return _off_policy(model, done, updates, remaining, network)
    return None


def _on_policy(model: Any, remaining: int) -> int:
    rollout = model.n_steps * model.n_envs
    batch_size = getattr(model, "batch_size", None) or rollout
    epochs = getattr(model, "n_critic_updates", getattr(model, "n_epochs", 1))
    return _ceil(remaining, rollout) * epochs * _ceil(rollout, batch_size)


def _off_policy(model: Any, done: int, updates: int, remaining: int, network: str) -> int | None:
    if model.train_freq.unit == TrainFrequencyUnit.EPISODE:
        if model.gradient_steps >= 0:
            return None
        steps = max(0, done + remaining - max(model.learning_starts, done))
    else:
        rollout = model.train_freq.frequency * model.n_envs
        idle = max(0, model.learning_starts - done) // rollout
        rounds = max(0, _ceil(remaining, rollout) - idle)
        steps = rounds * (model.gradient_steps if model.gradient_steps >= 0 else rollout)
    delay = getattr(model, "policy_delay", 1) if network == "actor" else 1
    return int((updates + steps) // delay - updates // delay)


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
