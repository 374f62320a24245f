"""What files and screens do to images: compression, coarse pixels, elastic deformation."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image
from scipy import ndimage

from supervised.vision.corruptions.noise import Floats


def jpeg_compression(images: Floats, severity: int, random: Generator) -> Floats:
    """Compress as JPEG, with Pillow."""
    quality = (80, 65, 58, 50, 40)[severity - 1]

    def compressed(image: Any) -> Any:
        held = BytesIO()
        image.save(held, "JPEG", quality=quality)
        return Image.open(held)

    return _each(images, compressed)


def pixelate(images: Floats, severity: int, random: Generator) -> Floats:
    """Scale down and up again by means over boxes, with Pillow."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]

    def coarse(image: Any) -> Any:
        small = tuple(max(1, int(side * share)) for side in image.size)
        box = Image.Resampling.BOX
        return image.resize(small, box).resize(image.size, box)

    return _each(images, coarse)


def elastic_transform(images: Floats, severity: int, random: Generator) -> Floats:
    """Deform: an affine map that moves three points at random, then a smooth random field.

    OpenCV rounds the places of the affine map to 1/32 of a pixel; here they are exact.
    """
    height, width = images.shape[1:3]
    side = min(height, width)
    far, sigma, corner = (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[severity - 1]
    middle, third = np.array([height // 2, width // 2]), side // 3
    first = np.array([middle + third, [middle[0] + third, middle[1] - third], middle - third])
    rows, columns = np.mgrid[:height, :width]
    found = np.empty_like(images)
    for index, image in enumerate(images):
        second = first + random.uniform(-corner * side, corner * side, first.shape)
        # Points are (x, y): a place of the new image is looked up where the map came from.
        known = np.column_stack([second, np.ones(3)])
        back = np.linalg.solve(known, first.astype(np.float64)).T
        x = back[0, 0] * columns + back[0, 1] * rows + back[0, 2]
        y = back[1, 0] * columns + back[1, 1] * rows + back[1, 2]
        warped = _looked_up(image, y, x, "mirror")
        fields = random.uniform(-1, 1, (2, height, width))
        if sigma:
            fields = ndimage.gaussian_filter(
                fields, (0, sigma * side, sigma * side), mode="reflect", truncate=3
            )
        right, down = far * side * fields
        found[index] = _looked_up(warped, rows + down, columns + right, "reflect")
    return found


def _looked_up(image: Floats, rows: Floats, columns: Floats, mode: str) -> Floats:
    channels = [
        ndimage.map_coordinates(image[..., channel], (rows, columns), order=1, mode=mode)
        for channel in range(image.shape[2])
    ]
    return np.stack(channels, 2)


def _each(images: Floats, change: Callable[[Any], Any]) -> Floats:
    """Change images one by one, as Pillow has them."""
    found = np.empty_like(images)
    grey = images.shape[3] == 1
    for index, image in enumerate(np.rint(images * 255).astype(np.uint8)):
        changed = change(Image.fromarray(image[..., 0] if grey else image))
        found[index] = np.asarray(changed).reshape(image.shape) / 255
    return found
