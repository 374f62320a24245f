"""Observations normalised by their running mean and variance, as part of a policy's state."""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

EPSILON = 1e-5
"""Added to the variance."""


class RunningNormalisation(BaseFeaturesExtractor):
    """Flattens observations and normalises them by their running statistics (RSNorm, SimBa 4.1).

    The statistics are those of the batches that it saw in training mode. They come into force when
    training mode ends, so that while a rollout is collected and learnt from nothing moves:
    PPO's ratios begin at one. Targets take them over with each of their own updates, since
    Stable-Baselines3 copies what is called `running_`. Before the first training it changes
    nothing.

    Deviation: SimBa counts each observation once, when the environment returns it; here it counts
    whenever it is trained on. A policy does not see what its environment returns: random actions
    at the start of training ask it nothing.

    Args:
        observation_space: Of vectors, or of what flattens to them.
    """

    running_mean: Tensor
    running_var: Tensor
    running_count: Tensor
    running_new_mean: Tensor
    running_new_var: Tensor
    running_new_count: Tensor

    def __init__(self, observation_space: spaces.Space[object]) -> None:
        super().__init__(observation_space, get_flattened_obs_dim(observation_space))
        self.flatten = nn.Flatten()
        for name in ("", "new_"):
            self.register_buffer(f"running_{name}mean", torch.zeros(self.features_dim))
            self.register_buffer(f"running_{name}var", torch.ones(self.features_dim))
            self.register_buffer(f"running_{name}count", torch.zeros(()))

    def forward(self, observations: Tensor) -> Tensor:
        """Normalise `(batch, ...)` observations to `(batch, features)`."""
        x: Tensor = self.flatten(observations)
        if self.training:
            self._see(x.detach())
        scaled: Tensor = (x - self.running_mean) / torch.sqrt(self.running_var + EPSILON)
        return scaled

    def train(self, mode: bool = True) -> RunningNormalisation:
        """Enter or leave training mode; what was seen in it counts from its end on."""
        if self.training and not mode and self.running_new_count > 0:
            _merge(
                (self.running_mean, self.running_var, self.running_count),
                (self.running_new_mean, self.running_new_var, self.running_new_count),
            )
            self.running_new_count.zero_()
        super().train(mode)
        return self

    def _see(self, x: Tensor) -> None:
        variance, mean = torch.var_mean(x, dim=0, correction=0)
        count = torch.as_tensor(float(len(x)), device=x.device)
        _merge(
            (self.running_new_mean, self.running_new_var, self.running_new_count),
            (mean, variance, count),
        )


def _merge(into: tuple[Tensor, Tensor, Tensor], other: tuple[Tensor, Tensor, Tensor]) -> None:
    """Merge mean, variance and count of two samples into the first (Chan et al. 1979)."""
    mean, variance, count = into
    total = count + other[2]
    part = other[2] / total
    off = other[0] - mean
    variance.lerp_(other[1], part).add_(off * off * part * (1 - part))
    mean.add_(off * part)
    count.copy_(total)
