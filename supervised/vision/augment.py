"""Random changes of training images, a batch at a time: a function of the generator alone."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

SHARE = 8
"""A crop is moved by up to the image's size divided by this, 4 pixels for 32 x 32."""


def augmented(images: Tensor, ways: Collection[str], generator: Generator) -> Tensor:
    """Return changed images.

    The same numbers are drawn whatever the ways, so runs that differ in them differ in nothing
    else.

    Args:
        images: `(n, channels, height, width)`.
        ways: `crop`: each is cut out of itself with zeros around, at a random place; `flip`: half
            of them are mirrored, left and right.
        generator: Decides.
    """
    count, _, height, width = images.shape
    mirrored = torch.rand(count, generator=generator) < 0.5
    border = max(height, width) // SHARE
    down, right = torch.randint(2 * border + 1, (2, count), generator=generator)
    if "crop" in ways and border:
        padded = F.pad(images, (border,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        images = windows[torch.arange(count), :, down, right]
    if "flip" in ways:
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images


class Scale:
    """Brings pixels to mean 0 and variance 1 in each channel of the training images.

    Args:
        pixels: Training images, `(n, channels, height, width) uint8`; those at hand.
    """

    def __init__(self, pixels: Tensor) -> None:
        numbers = pixels.transpose(0, 1).flatten(1).double()
        spread = numbers.std(1, correction=0).clamp(min=1.0)
        self.mean = numbers.mean(1).float()[:, None, None]
        self.spread = spread.float()[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        """Return scaled images, `(n, channels, height, width) float32`, channels last in memory."""
        scaled = images.float().sub_(self.mean).div_(self.spread)
        return scaled.contiguous(memory_format=torch.channels_last)
