"""Which images the kernels of a chain of convolutions take, and what shapes come of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparse_core.kernels.conv_stages import GIVEN
from sparse_core.layers import torch_path
from sparse_core.layers.condensed_conv import FEW, why_not_kernels
from sparse_core.layers.conv_pooling import pooling_of
from sparse_core.layers.conv_runs import ConvRun, Step

Shape = tuple[int, int, int]
"""Channels, height and width of images."""


def is_of_batch(norm: nn.BatchNorm2d) -> bool:
    """Whether a normalisation goes by the moments of the batch."""
    return norm.training or (norm.running_mean is None and norm.running_var is None)


def shapes_of(run: ConvRun, input: Tensor) -> list[Shape] | None:
    """Return the shape of the images before each step and at the end; None: not for kernels."""
    if torch_path.looked_into() or torch.is_autocast_enabled("cpu"):
        return None
    if not input.is_cpu or input.dtype != torch.float32 or input.dim() != 4:
        return None
    if len(input) < (1 if torch.is_grad_enabled() else FEW):
        return None
    shapes: list[Shape] = [(input.shape[1], input.shape[2], input.shape[3])]
    if run.begin is not None and not _normalises(run.begin, shapes[0], len(input)):
        return None
    for step in run.steps:
        after = _after(step, shapes[-1])
        if after is None or (
            step.norm is not None and not _normalises(step.norm, after, len(input))
        ):
            return None
        shapes.append(after)
        if step.added not in (None, GIVEN) and shapes[step.added] != after:
            return None
    return shapes


def _after(step: Step, shape: Shape) -> Shape | None:
    """Return the shape of what comes of images of a shape; None: kernels do not take them."""
    layer, (channels, *size) = step.layer, shape
    if step.pool is not None:
        pooling = pooling_of(step.pool, shape[1:])
        return None if pooling is None else (channels, *pooling.output(*size))
    if layer is None:
        return shape
    values = layer.values
    if channels != layer.in_channels or layer.shared is not None:
        return None
    if not values.is_cpu or values.dtype != torch.float32:
        return None
    if why_not_kernels(layer, *size) is not None:
        return None
    return layer.out_channels, *layer.window.output(*size)


def _normalises(norm: nn.BatchNorm2d, shape: Shape, batch: int) -> bool:
    """Whether a normalisation is for images of a shape, and its moments can be had."""
    here = all(p.is_cpu and p.dtype == torch.float32 for p in norm.parameters())
    enough = not is_of_batch(norm) or batch * shape[1] * shape[2] > 1
    return here and enough and norm.num_features == shape[0]


def fits(given: Tensor, input: Tensor, steps: Sequence[Step], shapes: Sequence[Shape]) -> bool:
    """Whether what a shortcut gives can be added."""
    at = next(i for i, step in enumerate(steps) if step.added == GIVEN)
    shape = (len(input), *shapes[at + 1])
    return given.shape == shape and given.dtype == torch.float32 and given.is_cpu
