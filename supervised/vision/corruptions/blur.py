"""Blurs: means over neighbouring pixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from supervised.vision.corruptions.noise import Floats

SHUTTER = 45.0
"""Degrees to either side of the horizontal in which a motion's direction is drawn."""


def gaussian_blur(images: Floats, severity: int, random: Generator) -> Floats:
    """Blur by a normal distribution."""
    return smoothed(images, (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1])


def defocus_blur(images: Floats, severity: int, random: Generator) -> Floats:
    """Blur by a disk with a soft edge."""
    radius, soft = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    disk = _disk(radius, soft)
    blurred: Floats = ndimage.correlate(images, disk[None, :, :, None], mode="mirror")
    return blurred


def glass_blur(images: Floats, severity: int, random: Generator) -> Floats:
    """Blur, let each pixel take the value of a neighbour, blur again.

    The published code means to swap two pixels; since it swaps views of one array, the first one
    takes the value of the second, which keeps its own. So it is here.
    """
    sigma, far, times = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))[
        severity - 1
    ]
    pixels = np.floor(smoothed(images, sigma) * 255) / 255
    count, height, width, _ = pixels.shape
    every = np.arange(count)
    for _ in range(times):
        for row in range(height - far, far, -1):
            for column in range(width - far, far, -1):
                right, down = random.integers(-far, far, (2, count))
                pixels[:, row, column] = pixels[every, row + down, column + right]
    return smoothed(pixels, sigma)


def motion_blur(images: Floats, severity: int, random: Generator) -> Floats:
    """Blur along a line of a direction that is drawn for each image."""
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity - 1]
    angles = random.uniform(-SHUTTER, SHUTTER, len(images))
    return moved(images, radius, sigma, angles)


def zoom_blur(images: Floats, severity: int, random: Generator) -> Floats:
    """Take the mean of the image and enlarged ones."""
    most = (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    factors = np.arange(1, most, 0.01)
    total = images.copy()
    for factor in factors:
        total += enlarged(images, float(factor))
    return total / (len(factors) + 1)


def smoothed(images: Floats, sigma: float) -> Floats:
    """Return images blurred by a normal distribution, edges repeated outside."""
    found: Floats = ndimage.gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest")
    return found


def moved(images: Floats, radius: int, sigma: float, angles: Floats) -> Floats:
    """Return images blurred along lines, by half a normal distribution, as ImageMagick does.

    Args:
        images: `(n, height, width, channels)`.
        radius: The line has 2 radius + 1 pixels.
        sigma: Of the distribution.
        angles: Degrees, `(n,)`.
    """
    length = 2 * radius + 1
    weights = np.exp(-(np.arange(length) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    count, height, width, _ = images.shape
    every = np.arange(count)[:, None, None]
    down, across = np.sin(np.deg2rad(angles)), np.cos(np.deg2rad(angles))
    total = np.zeros_like(images)
    for step, weight in enumerate(weights):
        rows = np.arange(height) + np.ceil(step * down - 0.5).astype(int)[:, None]
        columns = np.arange(width) + np.ceil(step * across - 0.5).astype(int)[:, None]
        rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
        total += weight * images[every, rows[:, :, None], columns[:, None, :]]
    return total


def enlarged(images: Floats, factor: float) -> Floats:
    """Return the middle of images, enlarged by linear interpolation to the size of the whole."""
    for axis in (1, 2):
        size = images.shape[axis]
        kept = math.ceil(size / factor)
        longer = round(kept * factor)
        places = np.arange(longer) * ((kept - 1) / max(1, longer - 1))
        places = places[(longer - size) // 2 :][:size] + (size - kept) // 2
        images = _interpolated(images, places, axis)
    return images


def _interpolated(images: Floats, places: Floats, axis: int) -> Floats:
    low = np.floor(places).astype(int).clip(0, images.shape[axis] - 2)
    part = (places - low).reshape([-1 if a == axis else 1 for a in range(images.ndim)])
    lower, upper = np.take(images, low, axis), np.take(images, low + 1, axis)
    found: Floats = (1 - part) * lower + part * upper
    return found


def _disk(radius: float, soft: float) -> NDArray[np.float64]:
    """Return a disk of this radius in pixels, blurred over 3 x 3 pixels, of sum one."""
    places = np.arange(-8, 9)
    inside = (places[:, None] ** 2 + places**2 <= radius**2).astype(np.float64)
    inside /= inside.sum()
    edge = np.exp(-(np.arange(-1, 2) ** 2) / (2 * soft**2))
    edge /= edge.sum()
    blurred: NDArray[np.float64] = ndimage.correlate(inside, edge[:, None] * edge, mode="mirror")
    return blurred
