"""How an algorithm goes from one task to the next.

At a switch all that belongs to the task before is reset: the optimizers' state, the rollout or
replay buffer, SAC's entropy coefficient (if it is learnt) to its initial value; schedules of
learning rates and of exploration begin again, as each task is a call of `learn` of its own. What
stays is the trunk, as `dstrl.tasks.mixin` says.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv

from dstrl.tasks.mixin import ContinualPolicy
from sparse_core.checks import InputError


def begin_task(model: BaseAlgorithm, label: int, env: GymEnv | None = None) -> None:
    """Let an algorithm go on with the next task, and reset what belonged to the one before.

    Args:
        model: An algorithm with a `ContinualPolicy`; the task in training ends.
        label: The next task.
        env: Its environment or environments, with the same spaces; None: they stay.

    Raises:
        InputError: If the policy cannot learn this task, or the environment is none, or there are
            others at once than before.
        ValueError: If the spaces differ. Whatever is refused, nothing is changed: the task in
            training goes on.
    """
    policy = policy_of(model)
    label = policy.check_task(label)
    if env is not None:
        _set_env(model, env)
    if policy.training_task is not None:
        policy.end_task()
    policy.begin_task(label)
    for name in ("rollout_buffer", "replay_buffer"):
        buffer = getattr(model, name, None)
        if buffer is not None:
            buffer.reset()
    _reset_entropy(model)


def _set_env(model: BaseAlgorithm, env: GymEnv) -> None:
    if not isinstance(env, (gym.Env, VecEnv)):
        raise InputError(f"env={env!r}: must be an environment of Gymnasium", field="env")
    number = env.num_envs if isinstance(env, VecEnv) else 1
    if number != model.n_envs:
        raise InputError(
            f"env: has {number} environments, the algorithm was made with {model.n_envs}",
            field="env",
        )
    model.set_env(env)


def policy_of(model: BaseAlgorithm) -> ContinualPolicy:
    """Return an algorithm's policy, which learns tasks in sequence.

    Raises:
        InputError: If it does not.
    """
    if not isinstance(model.policy, ContinualPolicy):
        kind = type(model.policy).__name__
        raise InputError(
            f"policy={kind}: tasks in sequence need one of dstrl.tasks.policies", field="policy"
        )
    return model.policy


def _reset_entropy(model: Any) -> None:
    optimizer = getattr(model, "ent_coef_optimizer", None)
    if optimizer is None:
        return
    initial = float(str(model.ent_coef).partition("_")[2] or 1.0)
    with torch.no_grad():
        model.log_ent_coef.fill_(math.log(initial))
    optimizer.state.clear()
