"""The kinds of corruption by name; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping

SEVERITIES = (1, 2, 3, 4, 5)

_HERE = "supervised.vision.corruptions"

CORRUPTIONS: Mapping[str, str] = {
    "gaussian_noise": f"{_HERE}.noise:gaussian_noise",
    "shot_noise": f"{_HERE}.noise:shot_noise",
    "impulse_noise": f"{_HERE}.noise:impulse_noise",
    "speckle_noise": f"{_HERE}.noise:speckle_noise",
    "gaussian_blur": f"{_HERE}.blur:gaussian_blur",
    "defocus_blur": f"{_HERE}.blur:defocus_blur",
    "glass_blur": f"{_HERE}.blur:glass_blur",
    "motion_blur": f"{_HERE}.blur:motion_blur",
    "zoom_blur": f"{_HERE}.blur:zoom_blur",
    "snow": f"{_HERE}.weather:snow",
    "fog": f"{_HERE}.weather:fog",
    "brightness": f"{_HERE}.weather:brightness",
    "contrast": f"{_HERE}.weather:contrast",
    "saturate": f"{_HERE}.weather:saturate",
    "elastic_transform": f"{_HERE}.digital:elastic_transform",
    "pixelate": f"{_HERE}.digital:pixelate",
    "jpeg_compression": f"{_HERE}.digital:jpeg_compression",
}
"""Import strings of `(images, severity, random) -> images`: `(n, height, width, channels)` in
[0, 1], a severity of 1 to 5, a NumPy generator."""

COLOUR = ("saturate",)
"""Kinds that are for colour images only."""

ALL = "all"
"""Stands for all kinds that the images can have."""
