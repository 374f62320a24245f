"""The losses that Stable-Baselines3 minimises, of single samples, to look at their gradients.

They are those of PPO and A2C (whose gradients agree where the policy is still the one that
collected), DQN, SAC, TD3 and DDPG. Other algorithms have none here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples, RolloutBufferSamples
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from dstrl.watching.transitions import rollout_rows, row_of, steps_held

Loss = Callable[[Any], Tensor]


def losses_of(model: BaseAlgorithm) -> dict[str, Loss]:
    """Return the loss of each network that has an engine, as a function of a batch."""
    policy: Any = model.policy
    found: dict[str, Callable[[Any, Any], Tensor]] = {}
    if isinstance(model, (PPO, A2C)):
        found = dict.fromkeys(("policy", "actor", "critic"), policy_gradient)
    elif isinstance(model, DQN):
        found = {"q_net": temporal_difference}
    elif isinstance(model, SAC):
        found = {"actor": soft_actor, "critic": soft_critic}
    elif isinstance(model, TD3):
        found = {"actor": deterministic_actor, "critic": clipped_critic}

    def bind(loss: Callable[[Any, Any], Tensor]) -> Loss:
        return lambda batch: loss(model, batch)

    return {name: bind(found[name]) for name in policy.sparse_engines if name in found}


def samples_of(model: Any, count: int) -> list[Any]:
    """Return up to `count` samples of what the algorithm trains on, each a batch of one.

    They are spread evenly over the last rollout or over the replay buffer. Advantages are
    normalised over all of them where the algorithm does so. No random stream moves on.
    """
    if isinstance(model, (PPO, A2C)):
        batch = _rollout_samples(model, count)
    else:
        replay = model.replay_buffer
        steps = steps_held(replay)
        ages = np.linspace(0, steps - 1, min(count, steps)).astype(int)
        with undisturbed_streams():
            rows = row_of(replay, ages)
            batch = replay._get_samples(rows, env=model.get_vec_normalize_env())
    return [_row(batch, index) for index in range(len(batch.actions))]


@contextmanager
def undisturbed_streams() -> Iterator[None]:
    """Give the global random streams of NumPy and torch back as they were."""
    state = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(state)


def policy_gradient(model: Any, batch: RolloutBufferSamples) -> Tensor:
    """Return the loss of A2C, and of PPO where no ratio is clipped."""
    discrete = isinstance(model.action_space, spaces.Discrete)
    actions = batch.actions.long().flatten() if discrete else batch.actions
    values, log_prob, entropy = model.policy.evaluate_actions(batch.observations, actions)
    surplus = -log_prob if entropy is None else entropy
    loss: Tensor = (
        -(batch.advantages * log_prob).mean()
        - model.ent_coef * surplus.mean()
        + model.vf_coef * F.mse_loss(batch.returns, values.flatten())
    )
    return loss


def temporal_difference(model: Any, batch: ReplayBufferSamples) -> Tensor:
    """Return DQN's loss."""
    with torch.no_grad():
        following = model.q_net_target(batch.next_observations).max(1, keepdim=True).values
    found = model.q_net(batch.observations).gather(1, batch.actions.long())
    return F.smooth_l1_loss(found, _target(model, batch, following))


def soft_critic(model: Any, batch: ReplayBufferSamples) -> Tensor:
    """Return the loss of SAC's critics."""
    with torch.no_grad():
        actions, log_prob = model.actor.action_log_prob(batch.next_observations)
        following = _least(model.critic_target(batch.next_observations, actions))
        following = following - _temperature(model) * log_prob.reshape(-1, 1)
    target = _target(model, batch, following)
    found = model.critic(batch.observations, batch.actions)
    return 0.5 * torch.stack([F.mse_loss(value, target) for value in found]).sum()


def soft_actor(model: Any, batch: ReplayBufferSamples) -> Tensor:
    """Return the loss of SAC's actor."""
    actions, log_prob = model.actor.action_log_prob(batch.observations)
    value = _least(model.critic(batch.observations, actions))
    loss: Tensor = (_temperature(model) * log_prob.reshape(-1, 1) - value).mean()
    return loss


def clipped_critic(model: Any, batch: ReplayBufferSamples) -> Tensor:
    """Return the loss of the critics of TD3 and DDPG."""
    with torch.no_grad():
        noise = torch.randn_like(batch.actions) * model.target_policy_noise
        noise = noise.clamp(-model.target_noise_clip, model.target_noise_clip)
        actions = (model.actor_target(batch.next_observations) + noise).clamp(-1, 1)
        following = _least(model.critic_target(batch.next_observations, actions))
    target = _target(model, batch, following)
    found = model.critic(batch.observations, batch.actions)
    return torch.stack([F.mse_loss(value, target) for value in found]).sum()


def deterministic_actor(model: Any, batch: ReplayBufferSamples) -> Tensor:
    """Return the loss of the actor of TD3 and DDPG."""
    loss: Tensor = -model.critic.q1_forward(
        batch.observations, model.actor(batch.observations)
    ).mean()
    return loss


def _target(model: Any, batch: ReplayBufferSamples, following: Tensor) -> Tensor:
    discounts = model.gamma if batch.discounts is None else batch.discounts
    return batch.rewards + (1 - batch.dones) * discounts * following


def _least(values: Any) -> Tensor:
    return torch.cat(values, dim=1).min(1, keepdim=True).values


def _temperature(model: Any) -> Tensor:
    if model.ent_coef_optimizer is None:
        fixed: Tensor = model.ent_coef_tensor
        return fixed
    return torch.exp(model.log_ent_coef.detach())


def _rollout_samples(model: Any, count: int) -> RolloutBufferSamples:
    buffer: RolloutBuffer = model.rollout_buffer
    pick = rollout_rows(buffer, count)

    def rows(arrays: Any) -> Any:
        return obs_as_tensor(pick(arrays), model.device)

    advantages = rows(buffer.advantages).flatten()
    if model.normalize_advantage and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    return RolloutBufferSamples(
        rows(buffer.observations),
        rows(buffer.actions),
        rows(buffer.values).flatten(),
        rows(buffer.log_probs).flatten(),
        advantages,
        rows(buffer.returns).flatten(),
    )


def _row(batch: Any, index: int) -> Any:
    """Return one sample of a batch, as a batch."""

    def one(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: one(item) for key, item in value.items()}
        return None if value is None else value[index : index + 1]

    return type(batch)(*map(one, batch))
