"""PPO (Schulman et al. 2017), its gradient steps compiled.

The loop over epochs and minibatches is made here, as Stable-Baselines3 makes it. A minibatch that
is not compiled goes through Stable-Baselines3's own `train`, which is given that one alone.
"""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO as Original
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.utils import explained_variance
from torch import nn

from dstrl.compiled.action_laws import Categorical, law_of
from dstrl.compiled.observations import Observations, check_extractor
from dstrl.compiled.program import Program
from dstrl.compiled.refusals import check_network, check_policy
from dstrl.compiled.rollouts import Minibatches, Rollout, Single, minibatch_kernel, passes_of
from dstrl.compiled.surrogate import LOGGED, OPTIONS, surrogate_kernel
from dstrl.compiled.training import Compiled
from sparse_core.step import CannotCompile, Trainer
from sparse_core.step.shape import zeros
from sparse_core.step.tape import Tape

_METHODS = ("evaluate_actions", "_get_action_dist_from_latent")
_KEPT = 2  # programs: of a whole minibatch, and of the last one of an epoch
_ROUNDS = 256  # minibatches that are taken at once, at most


class Clips(NamedTuple):
    """How far ratios and values may move: PPO's clip ranges."""

    ratio: float
    value: float | None


class PPOProgram(Program):
    """PPO's gradient step on minibatches of one size."""

    def __init__(self, model: Any, batch_size: int) -> None:
        check_policy(model)
        super().__init__(model, batch_size)
        policy, shape = self.policy, self.shape
        check_network(policy, "policy", ActorCriticPolicy, _METHODS)
        for name in ("pi_features_extractor", "vf_features_extractor"):
            check_extractor(getattr(policy, name), f"policy.{name}")
        mlp = policy.mlp_extractor
        if type(mlp) is not MlpExtractor:
            raise CannotCompile(f"mlp_extractor is a {type(mlp).__name__}")
        self.networks = [policy, mlp]
        self._law = law_of(policy, batch_size)
        self._actor = self.chain(nn.Sequential(mlp.policy_net, policy.action_net), "actor")
        self._value = self.chain(nn.Sequential(mlp.value_net, policy.value_net), "value")
        features = self._actor.in_features
        self._observations = Observations(shape, features)
        self._observed = [shape.forward(features) for _ in range(2)]
        width = 1 if isinstance(self._law, Categorical) else math.prod(model.action_space.shape)
        self._actions, self._numbers = zeros(batch_size, width), zeros(4, batch_size)
        self._place: NDArray[np.int64] = np.zeros(1, np.int64)
        self._row: NDArray[np.int64] = np.zeros(1, np.int64)
        self._options: NDArray[np.float64] = np.zeros(len(OPTIONS))
        self._logged: NDArray[np.float64] = np.zeros((_ROUNDS, len(LOGGED)))
        self.bind()

    def make_trainers(self) -> list[Trainer]:
        """That of the whole policy."""
        pairs = [*self._actor.gradients(), *self._value.gradients(), *self._law.gradients()]
        layers = [*self._actor.layers, *self._value.layers]
        self._move = Trainer(self.policy.optimizer, pairs, layers=layers)
        return [self._move]

    def make_tapes(self) -> list[Tape]:
        """Put it on a tape, from taking a minibatch to moving the policy."""
        self._tape = tape = Tape()
        law, policy, actor, value = self._law, self.policy, self._actor, self._value
        seen, actions = self._observations, self._actions
        none, row = zeros(0), zeros(0, seen.raw.shape[1])
        numbers = Minibatches(row, actions, none, none, none, none, np.zeros(0, np.int64))
        into = self._place, seen.raw, actions, self._numbers
        self._take = tape.call(minibatch_kernel(self.shape.tile), *numbers, *into)
        self._into = into
        of_actor, of_value = self._observed
        extractors = policy.pi_features_extractor, policy.vf_features_extractor
        seen.on_tape(tape, extractors[0], of_actor)
        if extractors[1] is extractors[0]:
            of_value = of_actor
        else:
            seen.on_tape(tape, extractors[1], of_value)
        outputs = actor.on_tape(tape, of_actor)
        law.evaluate(tape, outputs, actions)
        tape.call(
            surrogate_kernel(), law.log_prob, law.entropy, value.on_tape(tape, of_value),
            self._numbers, self._options, law.of_log_prob, law.of_entropy, value.signal,
            self._logged, self._row, tape.control,
        )  # fmt: skip
        law.backward(tape, outputs, actions, actor.signal)
        actor.backward_on_tape(tape)
        value.backward_on_tape(tape)
        self.turn(tape, self._move, *self.engines, clip=True)
        return [tape]

    def train(
        self, data: Minibatches, start: int, clips: Clips, most: int
    ) -> tuple[list[dict[str, float]], bool]:
        """Make gradient steps on minibatches, until the policy has moved too far.

        Args:
            data: The minibatches.
            start: Of the first one in `data.order`.
            clips: How far ratios and values may move.
            most: Minibatches from there on. Fewer are taken if a topology moves before.

        Returns:
            What is logged of each, without `train/`; whether training is over.
        """
        model, options = self.model, self._options
        options[:] = (
            clips.ratio,
            math.nan if clips.value is None else clips.value,
            model.ent_coef,
            model.vf_coef,
            model.normalize_advantage,
            math.inf if model.target_kl is None else model.target_kl,
        )
        rounds = 1 if self.moving else self.coming(min(most, _ROUNDS))
        self._take.take(*data, *self._into)
        self._place[0], self._row[0] = start, 0
        self._move.prepare(largest=model.max_grad_norm)
        if self.moving:
            made = int(self.run_moving(self._tape))
        else:
            made = self._tape.run(rounds)
            self._move.has_moved()
            self.after(*self.engines, steps=made)
        lines = self._logged[: self._row[0]].tolist()
        return [dict(zip(LOGGED, line, strict=True)) for line in lines], made < rounds


class PPO(Compiled, Original):
    """Stable-Baselines3's PPO; see `dstrl.compiled`."""

    logged = LOGGED
    _programs: dict[int, Program] | None = None

    def _make_program(self, batch_size: int) -> Program:
        return PPOProgram(self, batch_size)

    def train(self) -> None:  # type: ignore[override]
        """Update the policy on the rollout that was collected."""
        if not self.compiled or self.uncompiled is not None:
            Original.train(self)
            return
        model: Any = self
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clips = Clips(model.clip_range(self._current_progress_remaining), None)
        if model.clip_range_vf is not None:
            clips = clips._replace(value=model.clip_range_vf(self._current_progress_remaining))
        steps: list[dict[str, float]] = []
        last: list[dict[str, float]] = []
        for epoch in range(self.n_epochs):
            last, over = self._epoch(clips, epoch)
            steps += last
            self._n_updates += 1
            if over:
                break
        self._record(steps, [step["approx_kl"] for step in last], clips)

    def _epoch(self, clips: Clips, epoch: int) -> tuple[list[dict[str, float]], bool]:
        """Learn from the whole rollout; return what is logged, and whether training is over."""
        steps: list[dict[str, float]] = []
        for rollout in passes_of(self.rollout_buffer, self.batch_size):
            start, over = 0, False
            while start < rollout.count and not over:
                numbers, over = self._minibatches(rollout, start, clips, epoch)
                steps += numbers
                start += len(numbers) * self.batch_size
            if over:
                return steps, True
        return steps, False

    def _minibatches(
        self, rollout: Rollout | Single, start: int, clips: Clips, epoch: int
    ) -> tuple[list[dict[str, float]], bool]:
        """Make the steps of some minibatches, one at least; return as `PPOProgram.train`."""
        left = rollout.count - start
        size = min(self.batch_size, left)
        program = self._ready_for(size)
        if isinstance(program, PPOProgram):
            steps, over = program.train(rollout.samples, start, clips, left // size)
            if over and self.verbose >= 1:
                divergence = steps[-1]["approx_kl"]
                print(f"Early stopping at step {epoch} due to reaching max kl: {divergence:.2f}")
            return steps, over
        numbers = self._own_minibatch(rollout.minibatch(start, size))
        limit = self.target_kl
        return [numbers], limit is not None and numbers["approx_kl"] > 1.5 * limit

    def _ready_for(self, batch: int) -> Program | None:
        """Return the program for a minibatch; the one of the whole ones is kept beside it."""
        kept = self._programs = self._programs or {}
        self._program = kept.get(batch)
        program = self._ready(batch)
        if self._program is None:
            kept.clear()
        elif batch not in kept:
            if len(kept) == _KEPT:
                kept.clear()
            kept[batch] = self._program
        return program

    def _own_minibatch(self, data: RolloutBufferSamples) -> dict[str, float]:
        """Let Stable-Baselines3 make the step of one minibatch; return what it logs."""
        held = self.rollout_buffer, self.n_epochs, self._n_updates, self.logger.name_to_value
        none, model = np.zeros(1, np.float32), cast(Any, self)
        alone = SimpleNamespace(get=lambda size: iter([data]), values=none, returns=none)
        model.rollout_buffer, self.n_epochs = alone, 1
        logged: dict[str, Any] = defaultdict(float)
        self.logger.name_to_value = logged
        try:
            Original.train(self)
        finally:
            model.rollout_buffer, self.n_epochs, self._n_updates = held[:3]
            self.logger.name_to_value = held[3]
        return {name: float(logged[f"train/{name}"]) for name in self.logged}

    def _record(
        self, steps: list[dict[str, float]], divergences: list[float], clips: Clips
    ) -> None:
        record, buffer = self.logger.record, self.rollout_buffer
        for name in ("entropy_loss", "policy_gradient_loss", "value_loss"):
            record(f"train/{name}", np.mean([step[name] for step in steps]))
        record("train/approx_kl", np.mean(divergences))
        record("train/clip_fraction", np.mean([step["clip_fraction"] for step in steps]))
        record("train/loss", steps[-1]["loss"])
        explained = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        record("train/explained_variance", explained)
        if hasattr(self.policy, "log_std"):
            record("train/std", self.policy.log_std.detach().exp().mean().item())
        record("train/n_updates", self._n_updates, exclude="tensorboard")
        record("train/clip_range", clips.ratio)
        if clips.value is not None:
            record("train/clip_range_vf", clips.value)

    def _leave(self, reason: str) -> None:
        self._programs = None
        super()._leave(reason)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_programs"]
