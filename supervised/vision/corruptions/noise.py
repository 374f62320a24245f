"""Noise on single values."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def gaussian_noise(images: Floats, severity: int, random: Generator) -> Floats:
    """Add normal noise."""
    scale = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return images + random.normal(scale=scale, size=images.shape)


def shot_noise(images: Floats, severity: int, random: Generator) -> Floats:
    """Count photons: a value is the mean of a Poisson distribution."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return random.poisson(images * photons) / photons


def impulse_noise(images: Floats, severity: int, random: Generator) -> Floats:
    """Replace values by 0 or 1, as likely the one as the other."""
    amount = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    replaced = random.uniform(size=images.shape) <= amount
    white = random.uniform(size=images.shape) <= 0.5
    return np.where(replaced, white.astype(images.dtype), images)


def speckle_noise(images: Floats, severity: int, random: Generator) -> Floats:
    """Add normal noise in proportion to the value."""
    scale = (0.06, 0.1, 0.12, 0.16, 0.2)[severity - 1]
    return images + images * random.normal(scale=scale, size=images.shape)
