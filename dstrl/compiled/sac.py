"""SAC (Haarnoja et al. 2018), its gradient steps compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import SAC as Original
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.sac.policies import Actor

from dstrl.compiled.actor_critic import ActorCriticProgram
from dstrl.compiled.batches import mean_of
from dstrl.compiled.gaussian import SquashedGaussian
from dstrl.compiled.program import Program, trainer_of
from dstrl.compiled.training import Compiled
from sparse_core.step import CannotCompile, Shape, Trainer
from sparse_core.step.shape import Array, zeros

_METHODS = ("forward", "action_log_prob", "get_action_dist_params")


class SACProgram(ActorCriticProgram):
    """SAC's gradient step. The actor proposes actions for both observations in one call."""

    def __init__(self, model: Any, batch_size: int) -> None:
        super().__init__(model, batch_size, batches=2)
        if model.target_update_interval != 1:
            raise CannotCompile(f"target_update_interval is {model.target_update_interval}")
        actor = self.network("actor", Actor, *_METHODS)
        both = Shape.of(batch_size, batches=2)
        self._latent = self.chain(actor.latent_pi, "actor.latent_pi", both)
        self._mean = self.chain(actor.mu, "actor.mu", both)
        self._log_std = self.chain(actor.log_std, "actor.log_std", both)
        self._gaussian = SquashedGaussian(self.actions, both)
        self._noise = torch.empty(2, batch_size, self.actions)
        self.bind()

    def make_trainers(self) -> list[Trainer]:
        """Those of actor, critics and, where it is learnt, the entropy coefficient."""
        model = self.model
        chains = [self._latent, self._mean, self._log_std]
        self._move_actor = trainer_of(model.actor.optimizer, chains)
        self._move_critic = self.critic_trainer()
        self._move_entropy: Trainer | None = None
        if model.ent_coef_optimizer is None:
            return [self._move_actor, self._move_critic]
        self._of_log_entropy = zeros(1)
        self._log_entropy: Array = model.log_ent_coef.detach().numpy()
        learnt = [(model.log_ent_coef, self._of_log_entropy)]
        self._move_entropy = Trainer(model.ent_coef_optimizer, learnt)
        return [self._move_actor, self._move_critic, self._move_entropy]

    def step(self) -> dict[str, float]:
        """Make a gradient step: entropy coefficient, critics, actor."""
        rewards, remaining = self.sample()
        self._act()
        logged, coefficient = self._learn_entropy()
        start = self.shape.trained * self.shape.tile
        log_prob = self._gaussian.log_prob[start : start + self.batch_size]
        following = self.value_of_following() - np.float32(coefficient) * log_prob
        logged["critic_loss"] = self.learn_values(rewards + remaining * following, 0.5)
        self._move_critic.step(self.model.tau)
        logged["actor_loss"] = self._learn_actor(coefficient)
        model = self.model
        polyak_update(model.batch_norm_stats, model.batch_norm_stats_target, 1.0)
        model._n_updates += 1
        self.after("critic", "actor")
        return logged

    def _act(self) -> None:
        """Propose actions for the observations and for the next ones."""
        noise, gaussian = self._noise, self._gaussian
        for index in range(2):
            noise[index].normal_()
            first_tile = index * self.shape.trained
            self.lay(noise[index].numpy(), gaussian.noise, first_tile, 0)
        extractor, trained = self.policy.actor.features_extractor, self.shape.trained
        self.observations.read(extractor, self.observed[:trained])
        self.following.read(extractor, self.observed[trained:])
        latent = self._latent.forward(self.observed)
        gaussian.draw(self._mean.forward(latent), self._log_std.forward(latent))
        self.proposed[:, self.features :] = gaussian.action

    def _learn_entropy(self) -> tuple[dict[str, float], float]:
        """Move the entropy coefficient; return what is logged, and what it was."""
        model = self.model
        if self._move_entropy is None:
            coefficient = float(model.ent_coef_tensor)
            return {"ent_coef": coefficient}, coefficient
        logarithm = self._log_entropy.reshape(-1)[0]
        coefficient = float(np.exp(logarithm))
        surplus = self._gaussian.log_prob[: self.batch_size] + np.float32(model.target_entropy)
        gradient = -mean_of(surplus)
        self._of_log_entropy[0] = gradient
        self._move_entropy.step()
        loss = float(logarithm) * gradient
        return {"ent_coef": coefficient, "ent_coef_loss": loss}, coefficient

    def _learn_actor(self, coefficient: float) -> float:
        """Move the actor towards what the critics value and towards entropy; return the loss."""
        gaussian = self._gaussian
        values, of_action = self.judge(self.critics)
        log_prob = gaussian.log_prob[: self.batch_size]
        loss = mean_of(np.float32(coefficient) * log_prob - values)
        gaussian.backward(of_action, coefficient / self.batch_size)
        of_latent = self._mean.backward(gaussian.of_mean, first=0)
        other = self._log_std.backward(gaussian.of_log_std, first=0)
        assert of_latent is not None and other is not None
        self._latent.backward(np.add(of_latent, other, out=of_latent))
        self._move_actor.step()
        return loss


class SAC(Compiled, Original):
    """Stable-Baselines3's SAC; see `dstrl.compiled`."""

    logged = ("ent_coef", "actor_loss", "critic_loss", "ent_coef_loss")

    def _make_program(self, batch_size: int) -> Program:
        return SACProgram(self, batch_size)
