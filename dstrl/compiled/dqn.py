"""DQN (Mnih et al. 2015), its gradient steps compiled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from stable_baselines3 import DQN as Original
from stable_baselines3.dqn.policies import QNetwork

from dstrl.compiled.batches import Batches
from dstrl.compiled.observations import Observations
from dstrl.compiled.program import StepProgram, trainer_of
from dstrl.compiled.refusals import check_policy
from dstrl.compiled.training import Compiled
from sparse_core.step import CannotCompile, Trainer


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
        self._batches = Batches(model, self.shape)
        self._observations = Observations(self.shape, features)
        self._following = Observations(self.shape, features)
        self._now, self._next = self.shape.forward(features), self.shape.forward(features)
        self._places = np.divmod(np.arange(batch_size), self.shape.tile)
        self.bind()

    def make_trainers(self) -> list[Trainer]:
        """That of the network."""
        self._move = trainer_of(self.policy.optimizer, [self._values])
        return [self._move]

    def step(self) -> dict[str, float]:
        """Make a gradient step."""
        model, batch = self.model, self.batch_size
        drawn = self._batches.draw(self._observations.raw, self._following.raw)
        actions, rewards, remaining = drawn
        self._following.read(self.policy.q_net_target.features_extractor, self._next)
        following = self._target.forward(self._next).max(axis=1).reshape(-1)[:batch]
        wanted = rewards + remaining * following
        tiles, lanes = self._places
        chosen = tiles, actions.reshape(-1), lanes
        self._observations.read(self.policy.q_net.features_extractor, self._now)
        error = self._values.forward(self._now)[chosen] - wanted
        size = np.abs(error)
        loss = float(np.where(size < 1, 0.5 * error * error, size - 0.5).mean())
        self._values.signal[:] = 0
        self._values.signal[chosen] = np.clip(error, -1, 1) / np.float32(batch)
        self._values.backward()
        self._move.clip(model.max_grad_norm)
        self._move.step()
        model._n_updates += 1
        self.after("q_net")
        return {"loss": loss}


class DQN(Compiled, Original):
    """Stable-Baselines3's DQN; see `dstrl.compiled`."""

    logged = ("loss",)

    def _make_program(self, batch_size: int) -> StepProgram:
        return DQNProgram(self, batch_size)
