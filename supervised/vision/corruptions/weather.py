"""Weather and light: snow, fog, brightness, contrast, saturation."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from supervised.vision.corruptions.blur import enlarged, moved
from supervised.vision.corruptions.noise import Floats

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in a grey value (BT.601)."""


def snow(images: Floats, severity: int, random: Generator) -> Floats:
    """Whiten images and let flakes fall, blurred by their motion."""
    mean, spread, zoom, threshold, radius, sigma, kept = (
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    )[severity - 1]
    layer = random.normal(mean, spread, (*images.shape[:3], 1))
    layer = enlarged(layer, zoom)
    layer[layer < threshold] = 0
    layer = np.floor(layer.clip(0, 1) * 255) / 255
    layer = moved(layer, radius, sigma, random.uniform(-135, -45, len(images)))
    layer = np.floor(layer * 255 + 0.5) / 255
    grey = images if images.shape[3] == 1 else (images @ LUMA)[..., None]
    images = kept * images + (1 - kept) * np.maximum(images, grey * 1.5 + 0.5)
    return images + layer + layer[:, ::-1, ::-1]


def fog(images: Floats, severity: int, random: Generator) -> Floats:
    """Add clouds, a fractal (diamond-square), and keep the brightest value."""
    amount, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[severity - 1]
    count, height, width, _ = images.shape
    clouds = plasma(count, 1 << (max(height, width) - 1).bit_length(), decay, random)
    most = images.max((1, 2, 3), keepdims=True)
    foggy: Floats = (images + amount * clouds[:, :height, :width, None]) * most / (most + amount)
    return foggy


def brightness(images: Floats, severity: int, random: Generator) -> Floats:
    """Raise the value, in colours' terms of hue, saturation and value."""
    more = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    if images.shape[3] == 1:
        return images + more
    hsv = _to_hsv(images)
    hsv[..., 2] = (hsv[..., 2] + more).clip(0, 1)
    return _from_hsv(hsv)


def contrast(images: Floats, severity: int, random: Generator) -> Floats:
    """Bring values closer to the mean of their channel."""
    kept = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    means = images.mean((1, 2), keepdims=True)
    closer: Floats = (images - means) * kept + means
    return closer


def saturate(images: Floats, severity: int, random: Generator) -> Floats:
    """Change the saturation of colours: less of it at severities 1 and 2, more from 3 on."""
    times, more = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[severity - 1]
    hsv = _to_hsv(images)
    hsv[..., 1] = (hsv[..., 1] * times + more).clip(0, 1)
    return _from_hsv(hsv)


def plasma(count: int, size: int, decay: float, random: Generator) -> Floats:
    """Return maps of heights in [0, 1] by the diamond-square algorithm, `(count, size, size)`.

    Args:
        count: Maps.
        size: A power of two; opposite edges meet.
        decay: What random heights are divided by each time that the distance halves.
        random: Draws them.
    """
    maps = np.zeros((count, size, size))
    step, wibble = size, 100.0

    def mean(total: Floats) -> Floats:
        return total / 4 + wibble * random.uniform(-wibble, wibble, total.shape)

    while step >= 2:
        half = step // 2
        corners = maps[:, ::step, ::step]
        squares = corners + np.roll(corners, -1, 1)
        squares = squares + np.roll(squares, -1, 2)
        maps[:, half::step, half::step] = mean(squares)
        middles, corners = maps[:, half::step, half::step], maps[:, ::step, ::step]
        above = middles + np.roll(middles, 1, 1)
        beside = corners + np.roll(corners, -1, 2)
        maps[:, ::step, half::step] = mean(above + beside)
        left = middles + np.roll(middles, 1, 2)
        over = corners + np.roll(corners, -1, 1)
        maps[:, half::step, ::step] = mean(left + over)
        step, wibble = half, wibble / decay
    maps -= maps.min((1, 2), keepdims=True)
    maps /= maps.max((1, 2), keepdims=True)
    return maps


def _to_hsv(images: Floats) -> Floats:
    from matplotlib.colors import rgb_to_hsv

    found: Floats = rgb_to_hsv(images)
    return found


def _from_hsv(images: Floats) -> Floats:
    from matplotlib.colors import hsv_to_rgb

    found: Floats = hsv_to_rgb(images)
    return found
