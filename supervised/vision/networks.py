"""The networks of `supervised.vision.catalogue`, built for the images and classes at hand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import nn

from sparse_core.networks.residual import residual_network
from sparse_core.torchvision_compat import prepare_torchvision
from supervised.vision.transformer import vision_transformer
from supervised.vision.wide import wide_resnet

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""


def mlp(shape: Shape, classes: int, widths: Sequence[int], depth: int) -> nn.Module:
    """Build hidden layers with ReLU, then the head."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flat=nn.Flatten())
    inputs = shape[0] * shape[1] * shape[2]
    for index, width in enumerate(widths):
        layers[f"hidden{index + 1}"] = nn.Linear(inputs, width)
        layers[f"relu{index + 1}"] = nn.ReLU()
        inputs = width
    layers["head"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


def resnet8(shape: Shape, classes: int, widths: Sequence[int], depth: int | None) -> nn.Module:
    """Build a residual network of three stages of one block."""
    return residual_network(widths, 1, classes, shape[0])


def resnet20(shape: Shape, classes: int, widths: Sequence[int], depth: int | None) -> nn.Module:
    """Build a residual network of three stages of three blocks."""
    return residual_network(widths, 3, classes, shape[0])


def resnet32(shape: Shape, classes: int, widths: Sequence[int], depth: int | None) -> nn.Module:
    """Build a residual network of three stages of five blocks."""
    return residual_network(widths, 5, classes, shape[0])


def resnet18(shape: Shape, classes: int, widths: Sequence[int], depth: int | None) -> nn.Module:
    """Build ResNet-18 in the form for small images."""
    return residual_network(widths, 2, classes, shape[0])


def wrn22(shape: Shape, classes: int, widths: Sequence[int], depth: int | None) -> nn.Module:
    """Build a wide residual network of 22 layers."""
    return wide_resnet(22, widths, classes, shape[0])


def vit_tiny(shape: Shape, classes: int, widths: Sequence[int], depth: int) -> nn.Module:
    """Build a vision transformer with patches of 4."""
    return vision_transformer(shape[0], shape[1], 4, widths[0], depth, classes)


def resnet50(shape: Shape, classes: int, widths: Sequence[int], depth: None) -> nn.Module:
    """Build torchvision's ResNet-50."""
    return _torchvision("resnet50", num_classes=classes)


def mobilenet_v3(shape: Shape, classes: int, widths: Sequence[int], depth: None) -> nn.Module:
    """Build torchvision's MobileNet-V3, the large one."""
    return _torchvision("mobilenet_v3_large", num_classes=classes)


def vit_b_16(shape: Shape, classes: int, widths: Sequence[int], depth: None) -> nn.Module:
    """Build torchvision's ViT-B/16."""
    return _torchvision("vit_b_16", image_size=shape[1], num_classes=classes)


def _torchvision(name: str, **settings: Any) -> nn.Module:
    prepare_torchvision()
    from torchvision import models

    made: nn.Module = getattr(models, name)(**settings)
    return made
