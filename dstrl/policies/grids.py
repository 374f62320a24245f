"""A features extractor for small grids of objects, such as MinAtar's."""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sparse_core.checks import InputError, whole

KERNEL = 3


class GridCNN(BaseFeaturesExtractor):
    """A 3 x 3 convolution and a linear layer on grids of (height, width, kinds of objects).

    It is MinAtar's own network (Young and Tian 2019, "MinAtar: An Atari-Inspired Testbed for
    Thorough and Reproducible Reinforcement Learning Experiments", appendix): 16 filters, then 128
    units. Grids of 10 x 10 are too small for `NatureCNN`, whose first kernel is 8 x 8. Both layers
    take part in a sparse policy's budget.

    Args:
        observation_space: Of (height, width, channels), the channels last.
        features_dim: Units of the linear layer.
        filters: Of the convolution.

    Raises:
        InputError: If the observations are no grids of at least 3 x 3, or a size is no positive
            whole number.
    """

    def __init__(
        self, observation_space: spaces.Space[object], features_dim: int = 128, filters: int = 16
    ) -> None:
        shape = observation_space.shape
        if (
            not isinstance(observation_space, spaces.Box)
            or shape is None
            or len(shape) != 3
            or min(shape[:2]) < KERNEL
        ):
            raise InputError(
                f"observation_space={observation_space}: must be a Box of (height, width, "
                f"channels), at least {KERNEL} x {KERNEL}",
                field="observation_space",
            )
        super().__init__(observation_space, whole("features_dim", features_dim, 1))
        height, width, channels = shape
        filters = whole("filters", filters, 1)
        cells = (height - KERNEL + 1) * (width - KERNEL + 1)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, filters, KERNEL),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(filters * cells, features_dim),
            nn.ReLU(),
        )

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the features, `(n, features_dim)`, of `(n, height, width, channels)`."""
        features: torch.Tensor = self.layers(observations.movedim(-1, 1))
        return features
