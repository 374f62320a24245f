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
from numpy.typing import NDArray
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN

from sparse_core.kernels.jit import kernel, once
from sparse_core.step.shape import Array, Shape, zeros
from sparse_core.step.tape import Tape

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

    def draw(self, tape: Tape, mean: Array, log_std: Array) -> None:
        """Compute `action` and `log_prob` from `noise`."""
        self._mean, self._raw = mean, log_std
        clipped, std, drawn, action, below, log = self._tensors
        tape.call(_clip(), log_std, self._log_std)
        tape.do(lambda: torch.exp(clipped, out=std))
        tape.call(_draw(), self._std, self.noise, mean, self._drawn)
        tape.do(lambda: torch.tanh(drawn, out=action))
        tape.call(_below(), self.action, self._below)
        tape.do(lambda: torch.log(below, out=log))
        tape.call(_log_probability(), self.noise, self._log_std, self._log, self.log_prob)

    def backward(self, tape: Tape, of_action: Array, weight: NDArray[np.float64]) -> None:
        """Compute `of_mean` and `of_log_std`, the gradients of a loss.

        Args:
            tape: What does it.
            of_action: `(trained, actions, tile)`, its gradient by actions; zeros beyond the batch.
            weight: (1,), the factor of the mean log probability in it.
        """
        batch = self.shape.batch
        tape.call(_of_action(), of_action, self._below, self.action, weight, batch, self._of_action)
        by_action, action, by_drawn = self._ends
        backward = torch.ops.aten.tanh_backward.grad_input
        tape.do(lambda: backward(by_action, action, grad_input=by_drawn))
        tape.call(
            _signals(),
            self._of_drawn, self._mean, self._drawn, self.noise, self._std, self._raw, weight,
            batch, self.of_mean, self.of_log_std,
        )  # fmt: skip


@once
def _clip() -> Any:
    """Return the kernel that keeps the logarithm of a deviation in its range, of (raw, out)."""
    lowest, highest = float(LOG_STD_MIN), float(LOG_STD_MAX)

    @kernel("void(float32[:, :, ::1], float32[:, :, ::1])")
    def clip(raw, out):
        given, result = raw.reshape(-1), out.reshape(-1)
        for i in range(result.size):
            result[i] = min(max(given[i], np.float32(lowest)), np.float32(highest))

    return clip


@once
def _draw() -> Any:
    """Return the kernel std * noise + mean, rounded twice, of (std, noise, mean, out)."""

    @kernel("void(float32[:, :, ::1], float32[:, :, ::1], float32[:, :, ::1], float32[:, :, ::1])")
    def draw(std, noise, mean, out):
        spread, drawn, middle, result = (
            std.reshape(-1), noise.reshape(-1), mean.reshape(-1), out.reshape(-1)
        )  # fmt: skip
        for i in range(result.size):
            result[i] = spread[i] * drawn[i] + middle[i]

    return draw


@once
def _below() -> Any:
    """Return the kernel 1 - a^2 + epsilon, of (action, out)."""
    epsilon = EPSILON

    @kernel("void(float32[:, :, ::1], float32[:, :, ::1])")
    def below(action, out):
        given, result = action.reshape(-1), out.reshape(-1)
        for i in range(result.size):
            square = given[i] * given[i]
            result[i] = (np.float32(1) - square) + np.float32(epsilon)

    return below


@once
def _of_action() -> Any:
    """Return the kernel of the gradient by actions, through values and log probabilities.

    Returns:
        A function of the gradient through values, of 1 - a^2 + epsilon, of actions, of the weight
        of the mean log probability, (1,) float64, of the batch, and of where the result goes.
    """

    @kernel(
        "void(float32[:, :, ::1], float32[:, :, ::1], float32[:, :, ::1], float64[::1], int64, "
        "float32[:, :, ::1])"
    )
    def of_action(of_value, below, action, weight, batch, out):
        first, second = of_value.reshape(-1), below.reshape(-1)
        third, result = action.reshape(-1), out.reshape(-1)
        factor = np.float32(weight[0] / batch)
        for i in range(result.size):
            result[i] = factor / second[i] * (third[i] * np.float32(2)) + first[i]

    return of_action


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
        "float32[:, :, ::1], float32[:, :, ::1], float64[::1], int64, float32[:, :, ::1], "
        "float32[:, :, ::1])"
    )
    def signals(of_drawn, mean, drawn, noise, std, raw, factor, batch, of_mean, of_log_std):
        tiles, actions, tile = of_drawn.shape
        weight = np.float32(factor[0] / batch)
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
