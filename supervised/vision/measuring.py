"""How many images a network gets right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supervised.data.images import Images
from supervised.vision.augment import Scale

BATCH = 250
"""Images that are measured together."""

TOP = 5


@dataclass(frozen=True)
class Accuracy:
    """Fractions of images.

    Attributes:
        top1: Whose class has the highest score.
        top5: Whose class has one of the five highest scores, of all where there are fewer.
    """

    top1: float
    top5: float


def mixed(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which a network computes."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "mixed")


@torch.no_grad()
def accuracy(
    model: nn.Module, images: Images, scale: Scale, precision: str = "float32"
) -> Accuracy:
    """Measure a network, which is in evaluation mode then.

    Args:
        model: From scaled images to scores of classes.
        images: What it is measured on.
        scale: Of the training images.
        precision: `float32` or `mixed`.
    """
    model.eval()
    device = next(model.parameters()).device
    best = right = 0
    for pixels, labels in batches(images):
        with mixed(device, precision):
            scores = model(scale(pixels).to(device)).cpu()
        found = scores.topk(min(TOP, scores.shape[1]), dim=1).indices == labels[:, None]
        best += int(found[:, 0].sum())
        right += int(found.sum())
    return Accuracy(best / len(images), right / len(images))


def batches(images: Images) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images in their order, with their labels."""
    for rows in torch.split(torch.arange(len(images)), BATCH):
        yield images.pixels.take(rows), images.labels[rows]
