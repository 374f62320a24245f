"""An exponential moving average of a network's weights, and the network that has them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


class Decay:
    """The rule of an average: min(decay, (1 + n) / (10 + n)) of it is kept at step n.

    The second term keeps the first weights from counting for long in short runs (as TensorFlow's
    `ExponentialMovingAverage` does with `num_updates`).

    Args:
        decay: In (0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    @torch.no_grad()
    def __call__(self, averages: Tensors, numbers: Tensors, count: Tensor | int) -> None:
        """Move the averages towards numbers; those that are no floats are copied.

        Args:
            averages: Changed in place.
            numbers: In the same order.
            count: Steps that have been averaged.
        """
        kept = min(self.decay, (1 + int(count)) / (10 + int(count)))
        for average, number in zip(averages, numbers, strict=True):
            if average.is_floating_point():
                average.lerp_(number, 1 - kept)
            else:
                average.copy_(number)


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Return an average of a network, buffers of normalisation included."""
    return AveragedModel(model, multi_avg_fn=Decay(decay), use_buffers=True)


def with_average(model: nn.Module, average: AveragedModel) -> nn.Module:
    """Return a copy of a network with the averaged values of its own active weights."""
    found = copy.deepcopy(model)
    found.load_state_dict(average.module.state_dict(), strict=False)
    return found
