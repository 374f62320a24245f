"""The networks that learn tasks one after the other: plain modules, from flat features to logits.

    mlp       hidden layers with ReLU, then the head
    cnn       for each of `channels` a block of two 3x3 convolutions with ReLU and a 2x2 max
              pooling, then hidden layers and head as above
    resnet18  a stage of two residual blocks for each of `channels`, each but the first halving the
              image, then the head; with (64, 128, 256, 512) ResNet-18 for small images
              (`sparse_core.networks.residual`). Its normalisation is each task's own.

With channels (32, 64) and one hidden layer of 512, `cnn` is the network of split CIFAR-10/100 in
Zenke, Poole and Ganguli (Synaptic Intelligence, 2017, appendix), but for its dropout, which is left
out, and its padding: here every convolution keeps the size of the image.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from continual.runs.calls import EXPECTED, call
from continual.runs.catalogue import NETWORKS
from continual.runs.spec import check_channels
from sparse_core.checks import InputError, one_of
from sparse_core.imports import load
from sparse_core.networks.residual import residual_network


def make_network(
    network: str, features: int, classes: int, hidden: Sequence[int], channels: Sequence[int]
) -> nn.Sequential:
    """Build a network from `(batch, features)` to `(batch, classes)`.

    Args:
        network: One of `continual.runs.catalogue.NETWORKS`.
        features: Values of a sample; for `cnn` a square image, channel by channel.
        classes: Classes of a task.
        hidden: Neurons of the hidden linear layers.
        channels: Channels of the blocks of `cnn`.

    Raises:
        ValueError: If there is no such network, or it needs other images.
    """
    one_of("network", network, NETWORKS)
    make: Callable[..., nn.Sequential] = load("network", NETWORKS[network].make, "a network")
    return make(features, classes, hidden, channels)


def own_network(
    network: str, features: int, classes: int, settings: Mapping[str, Any]
) -> nn.Module:
    """Build a network of the user's own, and try it on two samples.

    Args:
        network: `package.module:NAME` of a function or class `(features, classes, **settings)`.
        features: Values of a sample.
        classes: Classes of a task.
        settings: Its keyword arguments.

    Raises:
        InputError: In one line, if it is not there, takes other arguments, returns no module, or
            the module does not take `(batch, features)` to `(batch, classes)`.
    """
    said = f"network={network!r}"
    made = call("network", network, features, classes, settings=settings)
    if not isinstance(made, nn.Module):
        raise InputError(
            f"{said}: gave a {type(made).__name__}, must be {EXPECTED['network']}", field="network"
        )
    made.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            shape = tuple(made(torch.zeros(2, features)).shape)
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"{said}: cannot take samples (batch, {features}): {why}", field="network"
        ) from error
    if shape != (2, classes):
        raise InputError(
            f"{said}: makes {shape} of (2, {features}), must make (2, {classes}): a value for each "
            "class",
            field="network",
        )
    return made.train()


def mlp(
    features: int, classes: int, hidden: Sequence[int], channels: Sequence[int] = ()
) -> nn.Sequential:
    """Build hidden layers with ReLU and the head; `channels` play no part."""
    widths = [features, *hidden]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def cnn(
    features: int, classes: int, hidden: Sequence[int], channels: Sequence[int]
) -> nn.Sequential:
    """Build a block of convolutions for each of `channels`, then an `mlp`."""
    shape = image_shape(features)
    check_channels(channels, shape[1])
    blocks = [nn.Unflatten(1, shape), *_blocks(shape[0], channels), nn.Flatten()]
    flat = channels[-1] * (shape[1] >> len(channels)) ** 2
    return nn.Sequential(*blocks, *mlp(flat, classes, hidden))


def resnet18(
    features: int, classes: int, hidden: Sequence[int], channels: Sequence[int]
) -> nn.Sequential:
    """Build a stage of two residual blocks for each of `channels`; `hidden` plays no part."""
    shape = image_shape(features)
    layers = residual_network(channels, 2, classes, shape[0]).named_children()
    return nn.Sequential(OrderedDict(image=nn.Unflatten(1, shape), **dict(layers)))


def image_shape(features: int) -> tuple[int, int, int]:
    """Return `(channels, side, side)` of a square image of so many values, grey or in colour.

    Which of the two it is is no question: a square is never three times a square.

    Raises:
        ValueError: If it is neither.
    """
    for channels in (1, 3):
        side = math.isqrt(features // channels)
        if side > 0 and channels * side * side == features:
            return channels, side, side
    raise InputError(
        f"features={features}: convolutions need square images, grey or in colour",
        field="features",
    )


def _blocks(inputs: int, channels: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for outputs in channels:
        for width in (inputs, outputs):
            layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        inputs = outputs
    return layers
