"""TD3 (Fujimoto et al. 2018) and DDPG (Lillicrap et al. 2016), their gradient steps compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import DDPG as OriginalDDPG
from stable_baselines3 import TD3 as OriginalTD3
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.td3.policies import Actor

from dstrl.compiled.actor_critic import ActorCriticProgram
from dstrl.compiled.batches import mean_of
from dstrl.compiled.program import Program, trainer_of
from dstrl.compiled.training import Compiled
from sparse_core.step import Trainer


class TD3Program(ActorCriticProgram):
    """TD3's gradient step, and DDPG's, which is TD3's with one critic and no delay."""

    def __init__(self, model: Any, batch_size: int) -> None:
        super().__init__(model, batch_size, batches=1)
        self._actor = self.chain(self.network("actor", Actor, "forward").mu, "actor.mu")
        target = self.network("actor_target", Actor, "forward")
        self._actor_target = self.chain(target.mu, "actor_target.mu")
        self._followed = self.shape.forward(self.features)
        self._noise = torch.empty(batch_size, self.actions)
        self._tiled_noise = self.shape.forward(self.actions)
        self.bind()

    def make_trainers(self) -> list[Trainer]:
        """Those of actor and critics, each with its targets."""
        model = self.model
        pairs = zip(model.actor.parameters(), model.actor_target.parameters(), strict=True)
        self._move_actor = trainer_of(model.actor.optimizer, [self._actor], pairs)
        self._move_critic = self.critic_trainer()
        return [self._move_actor, self._move_critic]

    def step(self) -> dict[str, float]:
        """Make a gradient step: critics and, every `policy_delay` steps, actor and targets."""
        model = self.model
        model._n_updates += 1
        delayed = model._n_updates % model.policy_delay != 0
        rewards, remaining = self.sample()
        self._propose_next()
        wanted = rewards + remaining * self.value_of_following()
        logged = {"critic_loss": self.learn_values(wanted, 1.0)}
        self._move_critic.step(0.0 if delayed else model.tau)
        self.after("critic")
        if not delayed:
            logged["actor_loss"] = self._learn_actor()
            polyak_update(model.critic_batch_norm_stats, model.critic_batch_norm_stats_target, 1.0)
            polyak_update(model.actor_batch_norm_stats, model.actor_batch_norm_stats_target, 1.0)
            self.after("actor")
        return logged

    def _propose_next(self) -> None:
        """Let the target propose next actions, with clipped noise."""
        model, noise = self.model, self._noise
        noise.normal_(0, model.target_policy_noise)
        noise.clamp_(-model.target_noise_clip, model.target_noise_clip)
        self.lay(noise.numpy(), self._tiled_noise, 0, 0)
        self.following.read(self.policy.actor_target.features_extractor, self._followed)
        action = self._actor_target.forward(self._followed)
        np.add(action, self._tiled_noise, out=action)
        np.clip(action, -1, 1, out=self.then[:, self.features :])

    def _learn_actor(self) -> float:
        """Move the actor towards what the first critic values; return the loss."""
        self.observations.read(self.policy.actor.features_extractor, self.observed)
        self.now[:, self.features :] = self._actor.forward(self.observed)
        values, of_action = self.judge(self.critics[:1])
        self._actor.backward(of_action)
        self._move_actor.step(self.model.tau)
        return -mean_of(values)


class TD3(Compiled, OriginalTD3):
    """Stable-Baselines3's TD3; see `dstrl.compiled`."""

    logged = ("actor_loss", "critic_loss")

    def _make_program(self, batch_size: int) -> Program:
        return TD3Program(self, batch_size)


class DDPG(Compiled, OriginalDDPG):
    """Stable-Baselines3's DDPG; see `dstrl.compiled`."""

    logged = ("actor_loss", "critic_loss")

    def _make_program(self, batch_size: int) -> Program:
        return TD3Program(self, batch_size)
