"""Corrupted test images, and how a network does on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparse_core.checks import one_of
from sparse_core.imports import load
from sparse_core.streams import stream
from supervised.data.images import Images, InMemory
from supervised.vision.augment import Scale
from supervised.vision.corruptions.table import ALL, COLOUR, CORRUPTIONS, SEVERITIES
from supervised.vision.measuring import accuracy
from supervised.vision.spec import check_corruptions

CHUNK = 250
"""Images that draw from one generator."""


def corrupted(images: Tensor, kind: str, severity: int) -> Tensor:
    """Return corrupted images, always the same ones.

    Args:
        images: `(n, channels, height, width) uint8`.
        kind: One of `CORRUPTIONS`.
        severity: 1 to 5.

    Returns:
        Images of the same shape and type; an image's random numbers are those of its place among
        the images.

    Raises:
        InputError: If there is no such kind or severity, or it is for colour images.
    """
    one_of("corruption", kind, CORRUPTIONS)
    one_of("severity", severity, SEVERITIES)
    check_corruptions([kind], images.shape[1])
    return torch.cat(list(_chunks(images, kind, severity)))


def _chunks(images: Tensor, kind: str, severity: int) -> Iterator[Tensor]:
    corrupt = load("corruption", CORRUPTIONS[kind], "a corruption")
    for number, part in enumerate(torch.split(images, CHUNK)):
        seed = stream(0, "corrupted", kind, severity, number).initial_seed()
        values = part.permute(0, 2, 3, 1).numpy() / 255
        found = corrupt(values, severity, np.random.default_rng(seed)).clip(0, 1)
        # Values of eight bits that nothing has changed stay as they are.
        pixels = torch.from_numpy(np.floor(found * 255 + 1e-6).astype(np.uint8))
        yield pixels.permute(0, 3, 1, 2).contiguous()


def kinds_for(kinds: Sequence[str], channels: int) -> list[str]:
    """Return the kinds that images with so many channels can have, where `all` stands for them."""
    if ALL not in kinds:
        return list(kinds)
    return [kind for kind in CORRUPTIONS if channels > 1 or kind not in COLOUR]


def corrupted_accuracy(
    model: nn.Module,
    images: Images,
    scale: Scale,
    kinds: Sequence[str],
    *,
    count: int | None,
    precision: str,
    told: Callable[[], None],
) -> dict[str, Any]:
    """Measure a network on corrupted test images.

    Args:
        model: From scaled images to scores of classes.
        images: Test images.
        scale: Of the training images.
        kinds: Of corruption; `all` stands for all that the images can have.
        count: Images to draw, the same for all runs; None: all.
        precision: `float32` or `mixed`.
        told: Called after each kind and severity.

    Returns:
        The accuracies of each kind, one for each severity, as `corrupted`, and their mean as
        `corrupted_accuracy`.
    """
    order = torch.randperm(len(images), generator=stream(0, "corrupted images"))
    rows = order[:count].sort()[0]
    pixels, labels = images.pixels.take(rows), images.labels[rows]
    found: dict[str, list[float]] = {}
    for kind in kinds_for(kinds, pixels.shape[1]):
        found[kind] = []
        for severity in SEVERITIES:
            changed = Images(InMemory(corrupted(pixels, kind, severity)), labels)
            found[kind].append(accuracy(model, changed, scale, precision).top1)
            told()
    return {
        "corrupted": found,
        "corrupted_accuracy": fmean(score for scores in found.values() for score in scores),
    }
