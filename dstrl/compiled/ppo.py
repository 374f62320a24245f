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
import torch
from stable_baselines3 import PPO as Original
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.utils import explained_variance
from torch import nn

from dstrl.compiled.action_laws import law_of
from dstrl.compiled.batches import column_of, lay_kernel, mean_of, minibatches, rows_of
from dstrl.compiled.observations import Observations, check_extractor
from dstrl.compiled.program import Program
from dstrl.compiled.refusals import check_network, check_policy
from dstrl.compiled.training import Compiled
from sparse_core.step import CannotCompile, Trainer
from sparse_core.step.shape import Array

_METHODS = ("evaluate_actions", "_get_action_dist_from_latent")
_KEPT = 2  # programs: of a whole minibatch, and of the last one of an epoch


class Clips(NamedTuple):
    """How far ratios and values may move: PPO's clip ranges."""

    ratio: float
    value: float | None


class PPOProgram(Program):
    """PPO's gradient step on one minibatch."""

    def __init__(self, model: Any, batch_size: int) -> None:
        check_policy(model)
        super().__init__(model, batch_size)
        policy = self.policy
        check_network(policy, "policy", ActorCriticPolicy, _METHODS)
        for name in ("pi_features_extractor", "vf_features_extractor"):
            check_extractor(getattr(policy, name), f"policy.{name}")
        mlp = policy.mlp_extractor
        if type(mlp) is not MlpExtractor:
            raise CannotCompile(f"mlp_extractor is a {type(mlp).__name__}")
        self.networks = [policy, mlp]
        self._law = law_of(policy)
        self._actor = self.chain(nn.Sequential(mlp.policy_net, policy.action_net), "actor")
        self._value = self.chain(nn.Sequential(mlp.value_net, policy.value_net), "value")
        self._observations = Observations(self.shape, self._actor.in_features)
        self._observed = self.shape.forward(self._actor.in_features)
        self._lay = lay_kernel(self.shape.tile)
        self.bind()

    def make_trainers(self) -> list[Trainer]:
        """That of the whole policy."""
        pairs = [*self._actor.gradients(), *self._value.gradients(), *self._law.gradients()]
        layers = [*self._actor.layers, *self._value.layers]
        fixed = [(layer.bias, layer.dead) for layer in layers if layer.dead is not None]
        self._move = Trainer(self.policy.optimizer, pairs, fixed=fixed)
        return [self._move]

    def minibatch(self, data: RolloutBufferSamples, clips: Clips) -> tuple[dict[str, float], bool]:
        """Make a gradient step, unless the policy has moved too far from the one that acted.

        Returns:
            What is logged of it, without `train/`; whether training is over.
        """
        model, batch = self.model, self.batch_size
        self._lay(rows_of(data.observations), self._observations.raw, 0, 0)
        self._observations.read(self.policy.pi_features_extractor, self._observed)
        outputs = self._actor.forward(self._observed).transpose(0, 2, 1)
        outputs = outputs.reshape(-1, outputs.shape[2])[:batch]
        log_prob, entropy = self._law.evaluate(outputs, data.actions.numpy())
        advantages, old = column_of(data.advantages), column_of(data.old_log_prob)
        if model.normalize_advantage and batch > 1:
            exact = advantages.astype(np.float64)
            exact -= mean_of(exact)
            spread = math.sqrt(float(exact @ exact) / (batch - 1))
            off = advantages - np.float32(mean_of(advantages))
            advantages = off / np.float32(spread + 1e-8)
        away = log_prob - old
        ratio = torch.exp(torch.from_numpy(away)).numpy()
        low, high = np.float32(1 - clips.ratio), np.float32(1 + clips.ratio)
        free = advantages * ratio
        held = advantages * np.minimum(np.maximum(ratio, low), high)
        inside = (ratio >= low) & (ratio <= high)
        value_loss, of_value = self._of_values(data, clips.value)
        logged = {
            "policy_gradient_loss": -mean_of(np.minimum(free, held)),
            "clip_fraction": np.count_nonzero(np.abs(ratio - 1) > clips.ratio) / batch,
            "value_loss": value_loss,
            "entropy_loss": -mean_of(entropy),
            "approx_kl": mean_of((np.exp(away) - 1) - away),
        }
        logged["loss"] = (
            logged["policy_gradient_loss"]
            + model.ent_coef * logged["entropy_loss"]
            + model.vf_coef * value_loss
        )
        if model.target_kl is not None and logged["approx_kl"] > 1.5 * model.target_kl:
            return logged, True
        counts = np.where(free == held, (1 + inside) / np.float32(2), free < held)
        of_log_prob = np.float32(-1 / batch) * counts.astype(np.float32) * advantages * ratio
        of_outputs = self._law.backward(of_log_prob, -model.ent_coef / batch)
        self._lay(np.ascontiguousarray(of_outputs, np.float32), self._actor.signal, 0, 0)
        self._actor.backward()
        self._value.signal.reshape(-1)[:batch] = np.float32(model.vf_coef) * of_value
        self._value.backward()
        self._move.clip(model.max_grad_norm)
        self._move.step()
        self.after(*self.engines)
        return logged, False

    def _of_values(self, data: RolloutBufferSamples, clip: float | None) -> tuple[float, Array]:
        """Return the loss of the value network, and its gradient by `(batch,)` values."""
        batch = self.batch_size
        policy, wanted = self.policy, column_of(data.returns)
        if policy.vf_features_extractor is not policy.pi_features_extractor:
            self._observations.read(policy.vf_features_extractor, self._observed)
        values = self._value.forward(self._observed)
        values = values.reshape(-1)[:batch]
        if clip is None:
            error, inside = values - wanted, np.ones(batch, np.bool_)
        else:
            before = column_of(data.old_values)
            moved = values - before
            error = before + np.clip(moved, -np.float32(clip), np.float32(clip)) - wanted
            inside = np.abs(moved) <= clip
        return float(error @ error) / batch, np.float32(2 / batch) * error * inside


class PPO(Compiled, Original):
    """Stable-Baselines3's PPO; see `dstrl.compiled`."""

    logged = (
        "entropy_loss",
        "policy_gradient_loss",
        "value_loss",
        "approx_kl",
        "clip_fraction",
        "loss",
    )
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
        for epoch in range(self.n_epochs):
            divergences = []
            over = False
            for data in minibatches(self.rollout_buffer, self.batch_size):
                numbers, over = self._minibatch(data, clips, epoch)
                steps.append(numbers)
                divergences.append(numbers["approx_kl"])
                if over:
                    break
            self._n_updates += 1
            if over:
                break
        self._record(steps, divergences, clips)

    def _minibatch(
        self, data: RolloutBufferSamples, clips: Clips, epoch: int
    ) -> tuple[dict[str, float], bool]:
        program = self._ready_for(len(data.actions))
        if isinstance(program, PPOProgram):
            numbers, over = program.minibatch(data, clips)
            if over and self.verbose >= 1:
                divergence = numbers["approx_kl"]
                print(f"Early stopping at step {epoch} due to reaching max kl: {divergence:.2f}")
            return numbers, over
        numbers = self._own_minibatch(data)
        limit = self.target_kl
        return numbers, limit is not None and numbers["approx_kl"] > 1.5 * limit

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
