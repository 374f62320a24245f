"""How many optimizer steps a call of `learn` will do, by network.

A topology is updated every so many *optimizer* steps and its schedule ends at a fraction of the
whole training, while `learn` counts environment steps.
"""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFrequencyUnit


def optimizer_steps(model: BaseAlgorithm, network: str) -> int | None:
    """Return the optimizer steps that are still to come for one network.

    It is an upper bound where an algorithm may stop an epoch early (`target_kl`).

    Args:
        model: An algorithm inside `learn`.
        network: `policy`, `actor`, `critic` or `q_net`.

    Returns:
        None if it cannot be known: training after each episode, with a fixed number of steps. With
        as many gradient steps as environment steps after each episode it is right but for one
        episode.
    """
    remaining = max(0, model._total_timesteps - model.num_timesteps)
    if isinstance(model, OnPolicyAlgorithm):
        return _on_policy(model, remaining)
    if isinstance(model, OffPolicyAlgorithm):
        return _off_policy(model, remaining, network)
    return None


def _on_policy(model: Any, remaining: int) -> int:
    rollout = model.n_steps * model.n_envs
    batch_size = getattr(model, "batch_size", None) or rollout
    epochs = getattr(model, "n_critic_updates", getattr(model, "n_epochs", 1))
    return _ceil(remaining, rollout) * epochs * _ceil(rollout, batch_size)


def _off_policy(model: Any, remaining: int, network: str) -> int | None:
    if model.train_freq.unit == TrainFrequencyUnit.EPISODE:
        if model.gradient_steps >= 0:
            return None
        first = max(model.learning_starts, model.num_timesteps)
        steps = max(0, model.num_timesteps + remaining - first)
    else:
        rollout = model.train_freq.frequency * model.n_envs
        idle = max(0, model.learning_starts - model.num_timesteps) // rollout
        rounds = max(0, _ceil(remaining, rollout) - idle)
        steps = rounds * (model.gradient_steps if model.gradient_steps >= 0 else rollout)
    delay = getattr(model, "policy_delay", 1) if network == "actor" else 1
    return int((model._n_updates + steps) // delay - model._n_updates // delay)


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
