"""How PPO draws actions, and the gradients of their log probability and entropy.

A law is a distribution's formulas, in torch's order. Functions are computed in double precision and
rounded, since Adam's first steps make much of a last digit. What a network gives is
`(tiles, outputs, tile)`: the means of a Gaussian, or the logits of discrete actions. Actions are
`(batch, numbers)`.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
)
from torch import nn

from sparse_core.kernels.jit import kernel, once
from sparse_core.step import CannotCompile
from sparse_core.step.shape import Array, zeros
from sparse_core.step.tape import Tape

_HALF_LOG = 0.5 * math.log(2 * math.pi)


class Law(ABC):
    """A distribution of actions.

    Args:
        batch: Samples of a batch.

    Attributes:
        log_prob: `(batch,)`, log probabilities of actions.
        entropy: `(batch,)`.
        of_log_prob: `(batch,)`, the derivative of a loss by each log probability.
        of_entropy: `(1,)`, its derivative by each sample's entropy.
    """

    def __init__(self, batch: int) -> None:
        self.log_prob, self.entropy, self.of_log_prob = zeros(batch), zeros(batch), zeros(batch)
        self.of_entropy = zeros(1)

    @abstractmethod
    def evaluate(self, tape: Tape, outputs: Array, actions: Array) -> None:
        """Compute `log_prob` and `entropy`."""

    @abstractmethod
    def backward(self, tape: Tape, outputs: Array, actions: Array, signal: Array) -> None:
        """Write the gradient of a loss by what the network gave, of `(batch,)` samples."""

    def gradients(self) -> list[tuple[nn.Parameter, Array]]:
        """List parameters of its own, with the room for their gradients."""
        return []


class Gaussian(Law):
    """Independent normal actions, whose deviations are parameters.

    Args:
        log_std: Their logarithms, `(actions,)`.
        batch: Samples of a batch.
    """

    def __init__(self, log_std: nn.Parameter, batch: int) -> None:
        super().__init__(batch)
        self._log_std, self._of_log_std = log_std, zeros(log_std.numel())

    def gradients(self) -> list[tuple[nn.Parameter, Array]]:
        """The deviations."""
        return [(self._log_std, self._of_log_std)]

    def evaluate(self, tape: Tape, outputs: Array, actions: Array) -> None:
        """Compute log probabilities and entropies."""
        log_std = self._log_std.detach().numpy()
        tape.call(_gaussian(), outputs, actions, log_std, self.log_prob, self.entropy)

    def backward(self, tape: Tape, outputs: Array, actions: Array, signal: Array) -> None:
        """Write the gradient by the means, and that by the deviations."""
        tape.call(
            _gaussian_backward(), outputs, actions, self._log_std.detach().numpy(),
            self.of_log_prob, self.of_entropy, signal, self._of_log_std,
        )  # fmt: skip


class Categorical(Law):
    """One of several actions, by logits.

    Args:
        actions: How many there are.
        batch: Samples of a batch.
    """

    def __init__(self, actions: int, batch: int) -> None:
        super().__init__(batch)
        self._logs, self._chances = zeros(batch, actions), zeros(batch, actions)

    def evaluate(self, tape: Tape, outputs: Array, actions: Array) -> None:
        """Compute log probabilities and entropies."""
        found = self._logs, self._chances, self.log_prob, self.entropy
        tape.call(_categorical(), outputs, actions, *found)

    def backward(self, tape: Tape, outputs: Array, actions: Array, signal: Array) -> None:
        """Write the gradient by the logits."""
        tape.call(
            _categorical_backward(), actions, self._logs, self._chances, self.entropy,
            self.of_log_prob, self.of_entropy, signal,
        )  # fmt: skip


def law_of(policy: Any, batch: int) -> Law:
    """Return the law of a policy's actions.

    Raises:
        CannotCompile: If it is another.
    """
    kind = type(policy.action_dist)
    if kind is DiagGaussianDistribution:
        return Gaussian(policy.log_std, batch)
    if kind is CategoricalDistribution:
        return Categorical(policy.action_net.out_features, batch)
    raise CannotCompile(f"actions are drawn from a {kind.__name__}")


@once
def _gaussian() -> Any:
    """Return the kernel of `Gaussian.evaluate`."""
    half_log = _HALF_LOG

    @kernel("void(float32[:, :, ::1], float32[:, ::1], float32[::1], float32[::1], float32[::1])")
    def evaluate(means, actions, log_std, log_prob, entropy):
        tile, constant = means.shape[2], np.float32(half_log)
        spread = np.float32(0)
        log_prob[:] = 0
        for j in range(log_std.size):
            scale = np.float32(math.exp(np.float64(log_std[j])))
            logarithm = np.float32(math.log(np.float64(scale)))
            spread += np.float32(0.5 + half_log) + logarithm
            twice = np.float32(2) * (scale * scale)
            for i in range(log_prob.size):
                off = actions[i, j] - means[i // tile, j, i % tile]
                log_prob[i] += -(off * off) / twice - logarithm - constant
        entropy[:] = spread

    return evaluate


@once
def _gaussian_backward() -> Any:
    """Return the kernel of `Gaussian.backward`."""

    @kernel(
        "void(float32[:, :, ::1], float32[:, ::1], float32[::1], float32[::1], float32[::1], "
        "float32[:, :, ::1], float32[::1])"
    )
    def backward(means, actions, log_std, weights, of_entropy, signal, of_log_std):
        tile, batch = means.shape[2], weights.size
        for j in range(log_std.size):
            scale = np.float32(math.exp(np.float64(log_std[j])))
            variance, total = scale * scale, 0.0
            for i in range(batch):
                off = actions[i, j] - means[i // tile, j, i % tile]
                total += weights[i] * (off * off / variance - np.float32(1))
                by_mean = weights[i] / (np.float32(2) * variance) * (np.float32(2) * off)
                signal[i // tile, j, i % tile] = by_mean
            of_log_std[j] = np.float32(total) + of_entropy[0] * np.float32(batch)

    return backward


@once
def _categorical() -> Any:
    """Return the kernel of `Categorical.evaluate`."""

    @kernel(
        "void(float32[:, :, ::1], float32[:, ::1], float32[:, ::1], float32[:, ::1], "
        "float32[::1], float32[::1])"
    )
    def evaluate(logits, taken, logs, chances, log_prob, entropy):
        tile, count = logits.shape[2], logs.shape[1]
        for i in range(log_prob.size):
            t, s = i // tile, i % tile
            largest = logits[t, 0, s]
            for j in range(1, count):
                largest = max(largest, logits[t, j, s])
            total = 0.0
            for j in range(count):
                total += math.exp(np.float64(logits[t, j, s]) - largest)
            normal, total = np.float32(largest + math.log(total)), 0.0
            for j in range(count):
                logs[i, j] = logits[t, j, s] - normal
                total += math.exp(np.float64(logs[i, j]))
            mean = np.float32(0)
            for j in range(count):
                chances[i, j] = math.exp(np.float64(logs[i, j])) / total
                mean += chances[i, j] * logs[i, j]
            entropy[i] = -mean
            log_prob[i] = logs[i, int(taken[i, 0])]

    return evaluate


@once
def _categorical_backward() -> Any:
    """Return the kernel of `Categorical.backward`."""

    @kernel(
        "void(float32[:, ::1], float32[:, ::1], float32[:, ::1], float32[::1], float32[::1], "
        "float32[::1], float32[:, :, ::1])"
    )
    def backward(taken, logs, chances, entropy, weights, of_entropy, signal):
        tile = signal.shape[2]
        for i in range(weights.size):
            t, s = i // tile, i % tile
            for j in range(logs.shape[1]):
                surprise = logs[i, j] + entropy[i]
                signal[t, j, s] = -chances[i, j] * (weights[i] + of_entropy[0] * surprise)
            signal[t, int(taken[i, 0]), s] += weights[i]

    return backward
