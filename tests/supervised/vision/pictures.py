"""A small folder of images: each class is a brightness."""

from __future__ import annotations

import numpy as np


def write(folder, *, classes=2, each=10, size=8, grey=False, suffix="png"):
    """Write `folder/CLASS/*`, `each` images of every class."""
    from PIL import Image

    for label in range(classes):
        place = folder / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        for number in range(each):
            shape = (size, size) if grey else (size, size, 3)
            pixels = np.full(shape, 50 * label + number, np.uint8)
            Image.fromarray(pixels).save(place / f"{number:03}.{suffix}")
    return folder
