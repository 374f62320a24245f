"""Neurons: the modules that make them, those that keep them apart, and how much they fire."""

from __future__ import annotations

import torch
from torch import Tensor, nn

ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.LogSigmoid,
    nn.Softshrink,
    nn.Hardshrink,
    nn.Tanhshrink,
    nn.Threshold,
)
"""Activation functions of one neuron each."""

CHANNEL_DIM = {nn.Linear: -1, nn.Conv1d: -2, nn.Conv2d: -3, nn.Conv3d: -4}
"""Layers of neurons (or filters) -> the dimension of their output that counts these."""

KEEPS_NEURONS_APART = (
    *ACTIVATIONS,
    nn.Identity,
    nn.Flatten,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)
"""Modules through which a neuron reaches the next layer alone, and in its place."""


def relative_activity(mean_abs: Tensor) -> Tensor:
    """Return `(neurons,)` E |h_i| over its mean, the score of dormancy; zeros in a silent layer.

    Args:
        mean_abs: `(neurons,)` E |h_i|.
    """
    mean = mean_abs.mean()
    return torch.zeros_like(mean_abs) if mean == 0 else mean_abs / mean
