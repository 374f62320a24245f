"""What a chain of convolutions is made of, and batch normalisation as a line per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.conv_sides import Operation

Array = NDArray[np.float32]
Double = NDArray[np.float64]

GIVEN = -1
"""In place of a stage: the images that are given beside the input of a chain."""


@dataclass(frozen=True)
class Norm:
    """Batch normalisation: weight * (y - mean) / sqrt(variance + eps) + bias, channel by channel.

    Attributes:
        weight: (channels,).
        bias: (channels,).
        eps: What is added to variances.
        given: Mean and variance, each (channels,); None: those of the batch.
    """

    weight: Array
    bias: Array
    eps: float
    given: tuple[Array, Array] | None


@dataclass(frozen=True)
class Stage:
    """An operation, and what comes behind it in this order: normalisation, a sum, ReLU.

    Attributes:
        operation: A convolution, pooling, or nothing; its images have the size of the outputs of
            the stage before.
        values: The weights of a convolution, else nothing.
        bias: (filters,) or None.
        norm: The normalisation, or None.
        relu: Whether there is a ReLU.
        added: The stage whose input is added, itself or an earlier one; `GIVEN`; None: nothing is.
    """

    operation: Operation
    values: Array
    bias: Array | None
    norm: Norm | None = None
    relu: bool = False
    added: int | None = None

    @property
    def of_batch(self) -> bool:
        """Whether it normalises by the moments of the batch."""
        return self.norm is not None and self.norm.given is None


@dataclass(frozen=True)
class Wanted:
    """Which gradients are wanted: those of values, of the bias, and of the normalisation."""

    values: bool
    bias: bool
    norm: bool

    @property
    def any(self) -> bool:
        """Whether one of them is."""
        return self.values or self.bias or self.norm


@dataclass
class Found:
    """The gradients of a stage that were wanted; None otherwise."""

    values: Array | None = None
    bias: Array | None = None
    norm: tuple[Array, Array] | None = None


@dataclass(frozen=True)
class Moments:
    """Mean and biased variance of each channel over a batch, and how many numbers they are of."""

    mean: Double
    variance: Double
    count: int

    @classmethod
    def merged(cls, of_tiles: Array, counts: Sequence[int]) -> Moments:
        """Merge the moments of tiles (Chan, Golub and LeVeque 1983).

        Args:
            of_tiles: (tiles, channels, 2), means and sums of squares about them.
            counts: Numbers of a channel in each tile.
        """
        means, squares = of_tiles[..., 0].astype(np.float64), of_tiles[..., 1].astype(np.float64)
        weights = np.array(counts, np.float64)[:, None]
        mean = (weights * means).sum(0) / weights.sum()
        total = (squares + weights * (means - mean) ** 2).sum(0)
        return cls(mean, total / weights.sum(), sum(counts))


@dataclass(frozen=True)
class Line:
    """What stands for a normalisation: scale * y + shift = weight * (y - mean) * inverse + bias.

    Attributes:
        mean: (channels,).
        inverse: (channels,), one by the standard deviation.
        scale: (channels,).
        shift: (channels,).
        count: Numbers that the mean is of; None: it does not depend on what is normalised.
    """

    mean: Array
    inverse: Array
    scale: Array
    shift: Array
    count: int | None

    @classmethod
    def through(cls, norm: Norm | None, moments: Moments | None, channels: int) -> Line:
        """Return the line of a normalisation, with the moments of the batch where it has none."""
        if norm is None:
            zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
            return cls(zeros, ones, ones, zeros, None)
        if norm.given is not None:
            mean, variance = (numbers.astype(np.float64) for numbers in norm.given)
        else:
            assert moments is not None
            mean, variance = moments.mean, moments.variance
        inverse = 1 / np.sqrt(variance + norm.eps)
        scale = norm.weight * inverse
        shift = norm.bias - mean * scale
        count = None if moments is None else moments.count
        lines = [numbers.astype(np.float32) for numbers in (mean, inverse, scale, shift)]
        return cls(lines[0], lines[1], lines[2], lines[3], count)

    def back(self, sums: Double) -> tuple[Array, Array]:
        """Return slope and shift: the gradient of y is scale * d + slope * (y - mean) + shift.

        Args:
            sums: (channels, 2), sums of d and of d * (y - mean), d the gradient of the line.
        """
        if self.count is None:
            zeros = np.zeros_like(self.scale)
            return zeros, zeros
        share = -self.scale.astype(np.float64) / self.count
        slope = share * self.inverse.astype(np.float64) ** 2 * sums[:, 1]
        return slope.astype(np.float32), (share * sums[:, 0]).astype(np.float32)

    def of_norm(self, sums: Double) -> tuple[Array, Array]:
        """Return the gradients of the normalisation's weight and bias; `sums` as for `back`."""
        weight = (sums[:, 1] * self.inverse).astype(np.float32)
        return weight, sums[:, 0].astype(np.float32)
