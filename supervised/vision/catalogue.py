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
        make: Import string of the function `(shape, classes, widths, depth) -> nn.Module`.
        width: What `width` stands for and is unless it is given; None: it has no such choice.
        depth: Its depth unless it is given; None: it has no such choice.
        stages: Widths of its stages, in multiples of `width`.
        free: Whether each width may be any number, so that `tiny` has one to look for.
        repeated: Whether it has a layer of `width` for each of `depth`, and no stages.
        colour: Whether it takes colour images only.
        patch: Images are cut into squares of so many pixels; 0: they are not.
    """

    summary: str
    make: str
    width: int | None = None
    depth: int | None = None
    stages: tuple[int, ...] = (1,)
    free: bool = False
    repeated: bool = False
    colour: bool = False
    patch: int = 0

    def widths(self, width: int | None, depth: int | None) -> tuple[int, ...]:
        """Return the widths of its layers or stages; none of a network without the choice.

        Args:
            width: That is asked for; None: the usual one.
            depth: That is asked for; None: the usual one.
        """
        width = width or self.width
        if width is None:
            return ()
        times = (depth or self.depth or 1) if self.repeated else 1
        return tuple(width * multiple for multiple in self.stages) * times


def _resnet(layers: int) -> Network:
    said = f"residual network of {layers} layers for small images, width: channels of stage 1"
    return Network(said, f"{_HERE}:resnet{layers}", 16, stages=(1, 2, 4), free=True)


NETWORKS: Mapping[str, Network] = {
    "mlp": Network(
        "depth hidden layers of width neurons with ReLU",
        f"{_HERE}:mlp",
        304,
        2,
        free=True,
        repeated=True,
    ),
    "resnet8": _resnet(8),
    "resnet20": _resnet(20),
    "resnet32": _resnet(32),
    "wrn22-2": Network(
        "wide residual network of 22 layers, width: how many times as wide as ResNet-20",
        f"{_HERE}:wrn22",
        2,
        stages=(16, 32, 64),
        free=True,
    ),
    "resnet18": Network(
        "ResNet-18 in the form for images of 32 x 32, width: channels of stage 1",
        f"{_HERE}:resnet18",
        64,
        stages=(1, 2, 4, 8),
        free=True,
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
