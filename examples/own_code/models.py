"""A network of one's own for tasks in sequence: two hidden layers with normalisation."""

from __future__ import annotations

from torch import nn


def normalised(features: int, classes: int, width: int = 100) -> nn.Module:
    """Return a network from `(batch, features)` to `(batch, classes)`."""
    return nn.Sequential(
        nn.Linear(features, width),
        nn.LayerNorm(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.LayerNorm(width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )
