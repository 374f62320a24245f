"""SAC (Haarnoja et al. 2018), its gradient steps compiled."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3 import SAC as Original
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.sac.policies import Actor

from dstrl.compiled.actor_critic import ActorCriticProgram
from dstrl.compiled.gaussian import SquashedGaussian
from dstrl.compiled.losses import entropy_kernel
from dstrl.compiled.program import Program, trainer_of
from dstrl.compiled.training import Compiled
from sparse_core.step import CannotCompile, Shape, Trainer
from sparse_core.step.parts import add, copy
from sparse_core.step.shape import Array, zeros
from sparse_core.step.tape import Tape

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
        self._noises = list(self._noise)
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

    def make_tapes(self) -> list[Tape]:
        """Put it on a tape: entropy coefficient, critics, actor."""
        self._tape = tape = Tape()
        batch, trained = self.batch_size, self.shape.trained
        of_now = self._gaussian.log_prob[:batch]
        start = trained * self.shape.tile
        of_then = self._gaussian.log_prob[start : start + batch]
        self._act(tape)
        if self._move_entropy is not None:
            logarithm = self._log_entropy.reshape(-1)
            tape.call(
                entropy_kernel(), of_now, float(self.model.target_entropy), logarithm,
                self._of_log_entropy, self.coefficient, self.numbers, self.place("ent_coef_loss"),
            )  # fmt: skip
            self._move_entropy.on_tape(tape)
        self.lay_actions(tape)
        self.value_of_following(tape)
        self.learn_values(tape, of_then, 0.5)
        self.turn(tape, self._move_critic, "critic")
        of_action = self.judge(tape, self.critics, of_now)
        self._gaussian.backward(tape, of_action, self.coefficient)
        of_latent = self._mean.backward_on_tape(tape, self._gaussian.of_mean, first=0)
        other = self._log_std.backward_on_tape(tape, self._gaussian.of_log_std, first=0)
        assert of_latent is not None and other is not None
        add(tape, of_latent, other, of_latent)
        self._latent.backward_on_tape(tape, of_latent)
        self.turn(tape, self._move_actor, "actor")
        return [tape]

    def _act(self, tape: Tape) -> None:
        """Propose actions for the observations and for the next ones."""
        actor, gaussian, trained = self.policy.actor, self._gaussian, self.shape.trained
        for index in range(2):
            noise = self._noise[index].numpy()
            tape.call(self.lay, noise, gaussian.noise, index * trained, 0)
        self.observations.on_tape(tape, actor.features_extractor, self.observed[:trained])
        self.following.on_tape(tape, actor.features_extractor, self.observed[trained:])
        latent = self._latent.on_tape(tape, self.observed)
        mean = self._mean.on_tape(tape, latent)
        gaussian.draw(tape, mean, self._log_std.on_tape(tape, latent))
        copy(tape, gaussian.action, self.proposed, 0, self.features)

    def step(self) -> dict[str, float]:
        """Make a gradient step."""
        model, numbers = self.model, self.numbers
        self.batches.draw()
        for noise in self._noises:
            noise.normal_()
        numbers[:] = 0
        if self._move_entropy is None:
            self.coefficient[0] = float(model.ent_coef_tensor)
        else:
            self._move_entropy.prepare()
        self._move_critic.prepare(0.0 if self.moving else model.tau)
        self._move_actor.prepare()
        if self.moving:
            self.run_moving(self._tape, model.tau)
        else:
            self._tape.run()
            self.after("critic", "actor")
        numbers[0] = self.coefficient[0]
        for trainer in self._trainers:
            trainer.has_moved()
        if model.batch_norm_stats:
            polyak_update(model.batch_norm_stats, model.batch_norm_stats_target, 1.0)
        model._n_updates += 1
        names = model.logged if self._move_entropy is not None else model.logged[:3]
        return dict(zip(names, numbers.tolist(), strict=False))


class SAC(Compiled, Original):
    """Stable-Baselines3's SAC; see `dstrl.compiled`."""

    logged = ("ent_coef", "actor_loss", "critic_loss", "ent_coef_loss")

    def _make_program(self, batch_size: int) -> Program:
        return SACProgram(self, batch_size)
