"""Residual networks for small images (He et al. 2016, section 4.2).

Shortcuts that change the size are convolutions of 1 x 1 (option B), as in ResNet-18; the paper's
networks of 6n + 2 layers pad with zeros instead (option A). The first convolution is of 3 x 3 with
stride 1 and no pooling follows it, the form in which ResNet-18 is trained on CIFAR.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 10


class Block(nn.Module):
    """Two convolutions of 3 x 3 with normalisation, beside a shortcut.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        stride: Of the first convolution and the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            change = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(change, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, inputs, height, width)` to the block's output."""
        inner = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


def resnet(
    width: int, stages: int, blocks: int, classes: int = CLASSES, channels: int = 3
) -> nn.Sequential:
    """Return a network from `(batch, channels, height, width)` to `(batch, classes)`.

    ResNet-8, -20 and -32 have a width of 16, three stages and 1, 3 and 5 blocks; ResNet-18 has a
    width of 64, four stages and 2 blocks.

    Args:
        width: Channels of the first stage; each stage has twice those of the one before.
        stages: Stages; each but the first halves the image.
        blocks: Blocks of a stage.
        classes: Outputs.
        channels: Of the images.
    """
    return residual_network([width << stage for stage in range(stages)], blocks, classes, channels)


def residual_network(
    widths: Sequence[int], blocks: int, classes: int, channels: int
) -> nn.Sequential:
    """Return a network as `resnet` does, its stages as wide as one likes.

    Args:
        widths: Channels of each stage; the first convolution has those of the first.
        blocks: Blocks of a stage.
        classes: Outputs.
        channels: Of the images.
    """
    inputs = widths[0]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Conv2d(channels, inputs, 3, 1, 1, bias=False)
    layers["norm"] = nn.BatchNorm2d(inputs)
    layers["relu"] = nn.ReLU()
    for stage, outputs in enumerate(widths):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            layers[f"stage{stage + 1}_{block + 1}"] = Block(inputs, outputs, stride)
            inputs = outputs
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flat"] = nn.Flatten()
    layers["head"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)
