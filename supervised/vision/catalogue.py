"""The networks that a run can name; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_HERE = "supervised.vision.networks"

HEAD = 64
"""Numbers of an attention head of `vit_tiny`."""


@dataclass(frozen=True)
class Network:
    """A network.

    Attributes:
        summary: What it is, in one line.
        make: Import string of the function `(shape, classes, width, depth) -> nn.Module`.
        width: What `width` stands for and is unless it is given; None: it has no such choice.
        depth: Its depth unless it is given; None: it has no such choice.
        colour: Whether it takes colour images only.
        patch: Images are cut into squares of so many pixels; 0: they are not.
    """

    summary: str
    make: str
    width: int | None = None
    depth: int | None = None
    colour: bool = False
    patch: int = 0


def _resnet(layers: int) -> Network:
    said = f"residual network of {layers} layers for small images, width: channels of stage 1"
    return Network(said, f"{_HERE}:resnet{layers}", 16)


NETWORKS: Mapping[str, Network] = {
    "mlp": Network("depth hidden layers of width neurons with ReLU", f"{_HERE}:mlp", 304, 2),
    "resnet8": _resnet(8),
    "resnet20": _resnet(20),
    "resnet32": _resnet(32),
    "wrn22-2": Network(
        "wide residual network of 22 layers, width: how many times as wide as ResNet-20",
        f"{_HERE}:wrn22",
        2,
    ),
    "resnet18": Network(
        "ResNet-18 in the form for images of 32 x 32, width: channels of stage 1",
        f"{_HERE}:resnet18",
        64,
    ),
    "vit_tiny": Network(
        f"vision transformer, patches of 4, heads of {HEAD}, width: size of a token",
        f"{_HERE}:vit_tiny",
        192,
        12,
        patch=4,
    ),
    "resnet50": Network("torchvision's ResNet-50", f"{_HERE}:resnet50", colour=True),
    "mobilenet_v3": Network(
        "torchvision's MobileNet-V3, large", f"{_HERE}:mobilenet_v3", colour=True
    ),
    "vit_b_16": Network("torchvision's ViT-B/16", f"{_HERE}:vit_b_16", colour=True, patch=16),
}
