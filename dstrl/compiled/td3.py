"""TD3 (Fujimoto et al. 2018) and DDPG (Lillicrap et al. 2016), their gradient steps compiled."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import DDPG as OriginalDDPG
from stable_baselines3 import TD3 as OriginalTD3
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.td3.policies import Actor

from dstrl.compiled.actor_critic import ActorCriticProgram
from dstrl.compiled.program import Program, trainer_of
from dstrl.compiled.training import Compiled
from sparse_core.kernels.jit import kernel, once
from sparse_core.step import Trainer
from sparse_core.step.parts import copy
from sparse_core.step.shape import zeros
from sparse_core.step.tape import Tape

_STATS = ("", "_target")


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

    def make_tapes(self) -> list[Tape]:
        """Put it on two tapes: critics, and actor."""
        self._critics_tape, self._actors_tape = tape, other = Tape(), Tape()
        policy, none = self.policy, zeros(0)
        tape.call(self.lay, self._noise.numpy(), self._tiled_noise, 0, 0)
        self.following.on_tape(tape, policy.actor_target.features_extractor, self._followed)
        action = self._actor_target.on_tape(tape, self._followed)
        tape.call(explore_kernel(), action, self._tiled_noise, self.then, self.features)
        self.lay_actions(tape)
        self.value_of_following(tape)
        self.learn_values(tape, none, 1.0)
        self.turn(tape, self._move_critic, "critic")
        self.observations.on_tape(other, policy.actor.features_extractor, self.observed)
        copy(other, self._actor.on_tape(other, self.observed), self.now, 0, self.features)
        of_action = self.judge(other, self.critics[:1], none)
        self._actor.backward_on_tape(other, of_action)
        self.turn(other, self._move_actor, "actor")
        return [tape, other]

    def step(self) -> dict[str, float]:
        """Make a gradient step: critics and, every `policy_delay` steps, actor and targets."""
        model, noise, numbers = self.model, self._noise, self.numbers
        model._n_updates += 1
        delayed = model._n_updates % model.policy_delay != 0
        self.batches.draw()
        noise.normal_(0, model.target_policy_noise)
        noise.clamp_(-model.target_noise_clip, model.target_noise_clip)
        numbers[:] = 0
        tau = 0.0 if delayed else model.tau
        self._run(self._critics_tape, self._move_critic, "critic", tau)
        logged = {"critic_loss": float(numbers[self.place("critic_loss")])}
        if not delayed:
            self._run(self._actors_tape, self._move_actor, "actor", tau)
            logged["actor_loss"] = float(numbers[self.place("actor_loss")])
            for name in ("critic", "actor"):
                ours, targets = (getattr(model, f"{name}_batch_norm_stats{s}") for s in _STATS)
                if ours:
                    polyak_update(ours, targets, 1.0)
        return logged

    def _run(self, tape: Tape, trainer: Trainer, name: str, tau: float) -> None:
        if self.moving:
            trainer.prepare(0.0)
            self.run_moving(tape, tau)
            return
        trainer.prepare(tau)
        tape.run()
        trainer.has_moved()
        self.after(name)


@once
def explore_kernel() -> Any:
    """Return the kernel of the target's actions with noise, in their range.

    Returns:
        A function of actions and noise, (tiles, actions, tile), of where the sums go,
        (tiles, features, tile), and of the first feature there.
    """

    @kernel("void(float32[:, :, ::1], float32[:, :, ::1], float32[:, :, ::1], int64)")
    def explore(action, noise, out, first):
        tiles, actions, tile = action.shape
        for t in range(tiles):
            for j in range(actions):
                for s in range(tile):
                    total = action[t, j, s] + noise[t, j, s]
                    out[t, first + j, s] = min(max(total, np.float32(-1)), np.float32(1))

    return explore


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
