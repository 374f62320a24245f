"""What a forward and a backward pass of a convolution cost, masked and condensed.

For one batch size, group and number of threads, with f filters of t dense weights, i numbers of the
input for each output position (channels times both strides) and density d, in ns for each position
and sample:

    masked      weight f t   + feature (i + f)
    condensed   weight f t d + feature (i + f)

so the choice does not depend on the size of images, which `sparsify` does not know. Tiny images, of
which patches cover too much, are not considered.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Filters:
    """The filters of a convolution.

    Attributes:
        count: Filters.
        taps: Dense weights of each.
        inputs: Numbers of the input for each output position.
        density: Fraction of the weights that is active, in [0, 1].
    """

    count: int
    taps: int
    inputs: int
    density: float

    @classmethod
    def of(cls, layer: nn.Conv2d, density: float) -> Filters:
        """Return the filters of a layer."""
        height, width = layer.kernel_size
        taps = layer.in_channels // layer.groups * height * width
        inputs = layer.in_channels * layer.stride[0] * layer.stride[1]
        return cls(layer.out_channels, taps, inputs, density)


@dataclass(frozen=True)
class ConvCosts:
    """Nanoseconds for each output position and sample, for one batch size, group and threads."""

    masked_weight: float
    masked_feature: float
    condensed_weight: float
    condensed_feature: float

    def masked(self, filters: Filters) -> float:
        """Return what a masked convolution costs."""
        features = self.masked_feature * (filters.inputs + filters.count)
        return self.masked_weight * filters.count * filters.taps + features

    def condensed(self, filters: Filters) -> float:
        """Return what a condensed convolution costs."""
        weights = filters.count * filters.taps * filters.density
        features = self.condensed_feature * (filters.inputs + filters.count)
        return self.condensed_weight * weights + features

    def advantage(self, filters: Filters) -> float:
        """Return how many times longer the masked one takes; at least 1 where condensing pays."""
        condensed = self.condensed(filters)
        return self.masked(filters) / condensed if condensed > 0 else float("inf")


def shipped(batch: int, group: int, tile: int) -> ConvCosts:
    """Return the costs of a core of an AMD EPYC (Zen 4, AVX-512, oneDNN), fitted to measured ones.

    Args:
        batch: Samples of a training batch.
        group: Consecutive filters that share their columns.
        tile: Samples of a tile of condensed convolutions, which may be partly empty.
    """
    empty = -(-batch // tile) * tile / batch
    weight, feature = _CONDENSED[group]
    return ConvCosts(0.05, 1.0, weight * empty, feature * empty)


_CONDENSED = {1: (0.1, 1.0), 2: (0.075, 1.0), 4: (0.06, 0.8), 8: (0.06, 0.8)}
