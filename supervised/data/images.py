"""Labelled images in memory or on disk, and their division into those for training and testing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sparse_core.checks import InputError
from sparse_core.streams import stream

MOST_BYTES = 2**31
"""Images that take more in memory are read from their files in every batch."""


class Pixels(Protocol):
    """Images of one size."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, channels, height and width."""
        ...

    def take(self, rows: Tensor) -> Tensor:
        """Return some of them, `(n, channels, height, width) uint8`."""
        ...

    def some(self, rows: Tensor) -> Pixels:
        """Return some of them in the form that they have."""
        ...


class InMemory:
    """Images as a tensor `(n, channels, height, width) uint8`."""

    def __init__(self, pixels: Tensor) -> None:
        self._pixels = pixels

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, channels, height and width."""
        count, channels, height, width = self._pixels.shape
        return count, channels, height, width

    def take(self, rows: Tensor) -> Tensor:
        """Return some of them."""
        return self._pixels[rows]

    def some(self, rows: Tensor) -> InMemory:
        """Return some of them in the form that they have."""
        return InMemory(self._pixels[rows])


class InFiles:
    """Images that are read when they are asked for.

    Args:
        files: One for each image.
        size: Height and width that they are brought to: the shorter side is scaled to it, the
            longer one cut.
        channels: 1: all must be grey; 3: grey ones become coloured.
    """

    def __init__(self, files: Sequence[Path], size: int, channels: int) -> None:
        self._files = list(files)
        self._size, self._channels = size, channels

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, channels, height and width."""
        return len(self._files), self._channels, self._size, self._size

    def some(self, rows: Tensor) -> InFiles:
        """Return the images of these numbers, unread."""
        return InFiles([self._files[row] for row in rows.tolist()], self._size, self._channels)

    def take(self, rows: Tensor) -> Tensor:
        """Return some of them.

        Raises:
            InputError: If one cannot be read; it is named.
        """
        images = [read_image(self._files[row], self._size, self._channels) for row in rows.tolist()]
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class Images:
    """Images with their labels.

    Attributes:
        pixels: The images.
        labels: Their classes, `(n,) int64`.
    """

    pixels: Pixels
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, rows: Tensor) -> Images:
        """Return the images of these numbers."""
        return Images(self.pixels.some(rows), self.labels[rows])

    def held(self) -> Images:
        """Return the same images, in memory if they fit there."""
        if isinstance(self.pixels, InMemory) or prod(self.pixels.shape) > MOST_BYTES:
            return self
        return Images(InMemory(self.pixels.take(torch.arange(len(self)))), self.labels)


@dataclass(frozen=True)
class ImageParts:
    """The images of a run.

    Attributes:
        train: For training.
        valid: Held out of training; None: there are none.
        test: For testing.
        classes: Number of classes.
    """

    train: Images
    valid: Images | None
    test: Images
    classes: int


def divided(
    train: Images,
    test: Images,
    *,
    samples: int | None = None,
    valid_fraction: float = 0.0,
    seed: int = 0,
) -> ImageParts:
    """Draw the images of a run.

    Args:
        train: All images for training.
        test: All test images.
        samples: Images for training to draw, those held out among them; None: all.
        valid_fraction: How much of them is held out.
        seed: The run's seed.

    Raises:
        InputError: If there are fewer.
    """
    classes = int(train.labels.max()) + 1
    if samples is not None and samples > len(train):
        raise InputError(
            f"samples={samples}: must be at most {len(train)}, the images for training",
            field="samples",
        )
    rows = torch.arange(len(train))
    if samples is not None or valid_fraction:
        rows = torch.randperm(len(train), generator=stream(seed, "images"))[:samples]
    valid = None
    if valid_fraction:
        held_out = max(1, int(valid_fraction * len(rows)))
        held, rows = rows[:held_out], rows[held_out:]
        if not len(rows):
            raise InputError(
                f"valid_fraction={valid_fraction}: leaves none of {held_out} images for training",
                field="valid_fraction",
            )
        valid = train.some(held.sort()[0]).held()
    return ImageParts(train.some(rows.sort()[0]).held(), valid, test.held(), classes)


def read_image(file: Path, size: int, channels: int) -> np.ndarray:
    """Return `(size, size, channels) uint8`.

    Raises:
        InputError: If it cannot be read as an image, or is in colour where grey ones are expected.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            if channels == 1 and not is_grey(image):
                raise InputError(
                    f"image={str(file)!r}: is in colour, the first image of the folder is grey",
                    field="image",
                )
            kind = image.convert("L" if channels == 1 else "RGB")
            if kind.size != (size, size):
                kind = ImageOps.fit(kind, (size, size), Image.Resampling.BILINEAR)
            return np.asarray(kind).reshape(size, size, channels)
    except (OSError, SyntaxError, ValueError) as error:  # whatever readers of broken files raise
        if isinstance(error, InputError):
            raise
        why = " ".join(str(error).split())
        raise InputError(
            f"image={str(file)!r}: cannot be read as an image: {why}", field="image"
        ) from None


def is_grey(image: object) -> bool:
    """Whether an opened image has no colour by its format."""
    return getattr(image, "mode", "") in ("1", "L", "LA", "I;16", "I", "F")
