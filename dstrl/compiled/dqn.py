"""DQN (Mnih et al. 2015), its gradient steps compiled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import DQN as Original
from stable_baselines3.dqn.policies import QNetwork

from dstrl.compiled.batches import Batches
from dstrl.compiled.losses import huber_kernel
from dstrl.compiled.observations import Observations
from dstrl.compiled.program import StepProgram, trainer_of
from dstrl.compiled.refusals import check_policy
from dstrl.compiled.training import Compiled
from sparse_core.step import CannotCompile, Trainer
from sparse_core.step.tape import Tape


class DQNProgram(StepProgram):
    """DQN's gradient step; its target is moved by Stable-Baselines3, between training phases."""

    def __init__(self, model: Any, batch_size: int) -> None:
        check_policy(model)
        super().__init__(model, batch_size)
        self._values = self.chain(self.network("q_net", QNetwork, "forward").q_net, "q_net")
        target = self.network("q_net_target", QNetwork, "forward")
        self._target = self.chain(target.q_net, "q_net_target")
        features = self._values.in_features
        if features != math.prod(model.observation_space.shape):
            raise CannotCompile("the network does not read observations as they are")
        self._observations = Observations(self.shape, features)
        self._following = Observations(self.shape, features)
        raw = self._observations.raw, self._following.raw
        self._batches = Batches(model, self.shape, *raw, 1)
        self._now, self._next = self.shape.forward(features), self.shape.forward(features)
        self._loss: NDArray[np.float64] = np.zeros(1)
        self.bind()

    def make_trainers(self) -> list[Trainer]:
        """That of the network."""
        self._move = trainer_of(self.policy.optimizer, [self._values])
        return [self._move]

    def make_tapes(self) -> list[Tape]:
        """Put it on a tape."""
        self._tape = tape = Tape()
        batches, policy = self._batches, self.policy
        self._following.on_tape(tape, policy.q_net_target.features_extractor, self._next)
        following = self._target.on_tape(tape, self._next)
        self._observations.on_tape(tape, policy.q_net.features_extractor, self._now)
        values, signal = self._values.on_tape(tape, self._now), self._values.signal
        outcomes = batches.actions, batches.rewards, batches.remaining
        tape.call(huber_kernel(), values, following, *outcomes, signal, self._loss)
        self._values.backward_on_tape(tape)
        self.turn(tape, self._move, "q_net", clip=True)
        return [tape]

    def step(self) -> dict[str, float]:
        """Make a gradient step."""
        model = self.model
        self._batches.draw()
        self._move.prepare(largest=model.max_grad_norm)
        if self.moving:
            self.run_moving(self._tape)
        else:
            self._tape.run()
            self._move.has_moved()
            self.after("q_net")
        model._n_updates += 1
        return {"loss": float(self._loss[0])}


class DQN(Compiled, Original):
    """Stable-Baselines3's DQN; see `dstrl.compiled`."""

    logged = ("loss",)

    def _make_program(self, batch_size: int) -> StepProgram:
        return DQNProgram(self, batch_size)
