"""Signal-to-noise ratio of the gradients that growth relies on.

    SNR(w)     = |mean_i g_i(w)| / std_i g_i(w)
    SNR(layer) = mean over weights of SNR(w)

g_1 ... g_m are the dense gradients of m micro-batches, the standard deviation is the unbiased one.
Graesser et al. 2022 ("The State of Sparse Training in Deep Reinforcement Learning") take the single
samples of a batch for g_i, compute each parameter's ratio and report the mean; they find values
down to 0.01, which may be why growth by gradients gains little in RL. Micro-batches of b samples
raise the ratio by sqrt(b). Pure noise does not measure as 0 but as about sqrt(2 / (pi m)).

Weights whose gradient is the same in all micro-batches (most often 0) have no ratio and are left
out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from sparse_core.engine import Engine

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class SignalToNoise:
    """Mean ratios of a layer; NaN where no weight has one.

    Attributes:
        overall: Over all weights.
        active: Over the active ones.
        inactive: Over those that could be grown.
    """

    overall: float
    active: float
    inactive: float


class GradientNoise:
    """Running mean and variance of a gradient (Welford's algorithm).

    Attributes:
        count: Gradients seen.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, gradient: Tensor) -> None:
        """Take the gradient of one micro-batch into account; always of the same shape."""
        if self._mean is None or self._squares is None:
            self._mean, self._squares = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self.count += 1
        deviation = gradient - self._mean
        self._mean = self._mean + deviation / self.count
        self._squares = self._squares + deviation * (gradient - self._mean)

    def ratio(self) -> Tensor:
        """Return |mean| / std of each weight, NaN where the gradient never varied.

        Raises:
            ValueError: If fewer than two gradients were seen.
        """
        if self._mean is None or self._squares is None or self.count < 2:
            raise ValueError(f"{self.count} gradients: the ratio needs at least 2 micro-batches")
        std = (self._squares / (self.count - 1)).sqrt()
        return torch.where(std > 0, self._mean.abs() / std, math.nan)


def gradient_snr(
    engine: Engine, loss: Callable[[Batch], Tensor], batches: Iterable[Batch]
) -> dict[str, SignalToNoise]:
    """Measure the dense gradients' ratio over micro-batches, at the present weights.

    Neither `.grad` nor what the engine has seen for its next update changes. The module runs in the
    mode it is in.

    Args:
        engine: The engine.
        loss: Maps a micro-batch to a scalar loss of the engine's module.
        batches: At least two micro-batches, of equal size.

    Returns:
        The ratio of each sparse layer through which a gradient flows.

    Raises:
        ValueError: If there are fewer than two micro-batches.
    """
    tensors = [tensor for tensor in engine.tensors if tensor.weight.requires_grad]
    if not tensors:
        return {}
    noise = {tensor.name: GradientNoise() for tensor in tensors}
    saved = [vars(tensor.tap).copy() for tensor in tensors]
    try:
        for batch in batches:
            for tensor in tensors:
                tensor.tap.arm(True)
            weights = [tensor.weight for tensor in tensors]
            torch.autograd.grad(loss(batch), weights, allow_unused=True)
            for tensor in tensors:
                gradient = tensor.tap.gradient()
                if gradient is not None:
                    noise[tensor.name].add(gradient.reshape(tensor.rows, tensor.cols))
    finally:
        for tensor, state in zip(tensors, saved, strict=True):
            vars(tensor.tap).update(state)
    if max((seen.count for seen in noise.values()), default=0) < 2:
        raise ValueError("batches: at least 2 micro-batches with a gradient are needed")
    return {
        tensor.name: _summary(noise[tensor.name].ratio(), tensor.active())
        for tensor in tensors
        if noise[tensor.name].count > 1
    }


def _summary(ratio: Tensor, active: Tensor) -> SignalToNoise:
    return SignalToNoise(
        float(ratio.nanmean()), float(ratio[active].nanmean()), float(ratio[~active].nanmean())
    )
