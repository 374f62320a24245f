"""How PPO draws actions, and the gradients of their log probability and entropy, on rows.

A law is a distribution's formulas, in torch's order and with its functions, since Adam's first
steps make much of a last digit. What a network gives is
`(batch, outputs)`: the means of a Gaussian, or the logits of discrete actions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
)
from torch import nn

from sparse_core.step import CannotCompile
from sparse_core.step.shape import Array, zeros

_HALF_LOG = 0.5 * math.log(2 * math.pi)


class Law(ABC):
    """A distribution of actions."""

    @abstractmethod
    def evaluate(self, outputs: Array, actions: Array) -> tuple[Array, Array]:
        """Return `(batch,)` log probabilities of actions, and `(batch,)` entropies."""

    @abstractmethod
    def backward(self, of_log_prob: Array, of_entropy: float) -> Array:
        """Return the gradient of a loss by what the network gave.

        Args:
            of_log_prob: `(batch,)`, its derivative by each log probability.
            of_entropy: Its derivative by each sample's entropy.
        """

    def gradients(self) -> list[tuple[nn.Parameter, Array]]:
        """List parameters of its own, with the room for their gradients."""
        return []


class Gaussian(Law):
    """Independent normal actions, whose deviations are parameters.

    Args:
        log_std: Their logarithms, `(actions,)`.
    """

    def __init__(self, log_std: nn.Parameter) -> None:
        self._log_std = log_std
        self._of_log_std = zeros(log_std.numel())

    def gradients(self) -> list[tuple[nn.Parameter, Array]]:
        """The deviations."""
        return [(self._log_std, self._of_log_std)]

    def evaluate(self, outputs: Array, actions: Array) -> tuple[Array, Array]:
        """Return log probabilities and entropies."""
        scale = self._log_std.detach().exp()
        log_std, self._variance = scale.log().numpy(), (scale * scale).numpy()
        self._off = actions - outputs
        self._square = self._off * self._off
        each = -self._square / (2 * self._variance) - log_std - np.float32(_HALF_LOG)
        entropy = np.float32((np.float32(0.5 + _HALF_LOG) + log_std).sum())
        return each.sum(axis=1), np.full(len(actions), entropy)

    def backward(self, of_log_prob: Array, of_entropy: float) -> Array:
        """Return the gradient by the means, and write that by the deviations."""
        weight = of_log_prob[:, None]
        by_spread = (weight * (self._square / self._variance - 1)).sum(axis=0)
        self._of_log_std[:] = by_spread + np.float32(of_entropy * len(of_log_prob))
        found: Array = weight / (2 * self._variance) * (2 * self._off)
        return found


class Categorical(Law):
    """One of several actions, by logits."""

    def evaluate(self, outputs: Array, actions: Array) -> tuple[Array, Array]:
        """Return log probabilities and entropies."""
        logits = torch.from_numpy(np.ascontiguousarray(outputs))
        log = logits - logits.logsumexp(dim=1, keepdim=True)
        self._log, self._chance = log.numpy(), log.softmax(dim=1).numpy()
        self._taken = np.arange(len(outputs)), actions.reshape(-1).astype(np.int64)
        self._entropy = -(self._chance * self._log).sum(axis=1)
        return self._log[self._taken], self._entropy

    def backward(self, of_log_prob: Array, of_entropy: float) -> Array:
        """Return the gradient by the logits."""
        surprise = self._log + self._entropy[:, None]
        found: Array = -self._chance * (of_log_prob[:, None] + np.float32(of_entropy) * surprise)
        found[self._taken] += of_log_prob
        return found


def law_of(policy: Any) -> Law:
    """Return the law of a policy's actions.

    Raises:
        CannotCompile: If it is another.
    """
    kind = type(policy.action_dist)
    if kind is DiagGaussianDistribution:
        return Gaussian(policy.log_std)
    if kind is CategoricalDistribution:
        return Categorical()
    raise CannotCompile(f"actions are drawn from a {kind.__name__}")
