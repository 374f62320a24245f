"""The squashed Gaussian policy of SAC (Haarnoja et al. 2018, appendix C) on tiles of samples.

    u = mu + std * noise,  a = tanh(u),  log pi = sum of log N(u) - log(1 - a^2 + 1e-6)

The formulas are Stable-Baselines3's, and so are the functions, torch's: where an action is nearly
one, a last digit of its tanh decides on the logarithm. Kernels do what lies between. Arrays are
`(tiles, actions, tile)`, but for sums over actions, which are `(samples,)`.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN

from sparse_core.kernels.jit import kernel, once
from sparse_core.step.shape import Array, Shape, zeros

EPSILON = 1e-6
"""What keeps the logarithm finite, as in Stable-Baselines3's distribution."""


class SquashedGaussian:
    """Draws actions, and turns gradients of actions into those of mean and deviation.

    Args:
        actions: Their number.
        shape: Of the batches; the first one is trained on.
    """

    def __init__(self, actions: int, shape: Shape) -> None:
        self.shape = shape
        self.noise, self._log_std, self._std = (shape.forward(actions) for _ in range(3))
        self._mean = self._raw = self._std
        self._drawn, self.action = (shape.forward(actions) for _ in range(2))
        self._below, self._log = (shape.forward(actions) for _ in range(2))
        self._tensors = [
            torch.from_numpy(array)
            for array in (
                self._log_std,
                self._std,
                self._drawn,
                self.action,
                self._below,
                self._log,
            )
        ]
        self.log_prob = zeros(shape.tiles * shape.tile)
        self.of_mean, self.of_log_std = (shape.backward(actions) for _ in range(2))
        self._of_action, self._of_drawn = (shape.backward(actions) for _ in range(2))
        self._ends = [
            torch.from_numpy(array)
            for array in (self._of_action, self.action[: shape.trained], self._of_drawn)
        ]

    def draw(self, mean: Array, log_std: Array) -> None:
        """Compute `action` and `log_prob` from `noise`."""
        self._mean, self._raw = mean, log_std
        clipped, std, drawn, action, below, log = self._tensors
        np.clip(log_std, LOG_STD_MIN, LOG_STD_MAX, out=self._log_std)
        torch.exp(clipped, out=std)
        np.multiply(self._std, self.noise, out=self._drawn)
        np.add(self._drawn, mean, out=self._drawn)
        torch.tanh(drawn, out=action)
        np.multiply(self.action, self.action, out=self._below)
        np.subtract(np.float32(1), self._below, out=self._below)
        np.add(self._below, np.float32(EPSILON), out=self._below)
        torch.log(below, out=log)
        _log_probability()(self.noise, self._log_std, self._log, self.log_prob)

    def backward(self, of_action: Array, weight: float) -> None:
        """Compute `of_mean` and `of_log_std`, the gradients of a loss.

        Args:
            of_action: `(trained, actions, tile)`, its gradient by actions; zeros beyond the batch.
            weight: Its derivative by each sample's log probability.
        """
        taken = self.shape.trained
        np.divide(np.float32(weight), self._below[:taken], out=self._of_action)
        np.multiply(self._of_action, self.action[:taken] * np.float32(2), out=self._of_action)
        np.add(self._of_action, of_action, out=self._of_action)
        by_action, action, by_drawn = self._ends
        torch.ops.aten.tanh_backward.grad_input(by_action, action, grad_input=by_drawn)
        _signals()(
            self._of_drawn, self._mean, self._drawn, self.noise, self._std, self._raw,
            np.float32(weight), self.shape.batch, self.of_mean, self.of_log_std,
        )  # fmt: skip


@once
def _log_probability() -> Any:
    """Return the kernel of the log probability, of (noise, log_std, log, out)."""
    half_log = np.float32(0.5 * math.log(2 * math.pi)).item()

    @kernel("void(float32[:, :, ::1], float32[:, :, ::1], float32[:, :, ::1], float32[::1])")
    def log_probability(noise, log_std, log, out):
        tiles, actions, tile = noise.shape
        half, constant = np.float32(0.5), np.float32(half_log)
        for t in range(tiles):
            for s in range(tile):
                out[t * tile + s] = 0
            for j in range(actions):
                for s in range(tile):
                    n = noise[t, j, s]
                    normal = -half * n * n - log_std[t, j, s] - constant
                    out[t * tile + s] += normal - log[t, j, s]

    return log_probability


@once
def _signals() -> Any:
    """Return the kernel of `SquashedGaussian.backward`.

    By mean and deviation the density of what was drawn does not change but for -log std. Autograd
    adds what cancels, with its rounding errors, and so does this.
    """
    lowest, highest = float(LOG_STD_MIN), float(LOG_STD_MAX)

    @kernel(
        "void(float32[:, :, ::1], float32[:, :, ::1], float32[:, :, ::1], float32[:, :, ::1], "
        "float32[:, :, ::1], float32[:, :, ::1], float32, int64, float32[:, :, ::1], "
        "float32[:, :, ::1])"
    )
    def signals(of_drawn, mean, drawn, noise, std, raw, weight, batch, of_mean, of_log_std):
        tiles, actions, tile = of_drawn.shape
        two = np.float32(2)
        least, most = np.float32(lowest), np.float32(highest)
        for t in range(tiles):
            count = min(tile, batch - t * tile)
            for j in range(actions):
                for s in range(count):
                    away, scale = drawn[t, j, s] - mean[t, j, s], std[t, j, s]
                    twice = two * (scale * scale)
                    by_density = -(weight / twice) * (two * away)
                    by_drawn = of_drawn[t, j, s] + by_density
                    of_mean[t, j, s] = by_drawn - by_density
                    by_spread = weight * (away * away / twice / twice) * two * (two * scale)
                    by_scale = by_drawn * noise[t, j, s] + (by_spread - weight / scale)
                    inside = (raw[t, j, s] >= least) and (raw[t, j, s] <= most)
                    of_log_std[t, j, s] = by_scale * scale if inside else np.float32(0)

    return signals
