"""Wide residual networks (Zagoruyko and Komodakis 2016): normalisation before convolutions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from sparse_core.layers.conv_blocks import Parts, chains

STEM = 16
"""Channels of the first convolution."""


class WideBlock(nn.Module):
    """Two convolutions of 3 x 3, each after normalisation and ReLU, beside a shortcut.

    A shortcut that changes the size is a convolution of 1 x 1 on the normalised input.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        stride: Of the first convolution and the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first_norm = nn.BatchNorm2d(inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, inputs, height, width)` to the block's output."""
        ready = F.relu(self.first_norm(x))
        inner: Tensor = self.second(F.relu(self.second_norm(self.first(ready))))
        return inner + (x if self.shortcut is None else self.shortcut(ready))


@chains(WideBlock)
def _parts(block: WideBlock) -> Parts:
    pairs = [(block.first, block.first_norm), (block.second, block.second_norm)]
    return Parts(pairs, block.shortcut, before=True)


def wide_resnet(depth: int, widths: Sequence[int], classes: int, channels: int) -> nn.Sequential:
    """Return a network from `(batch, channels, height, width)` to `(batch, classes)`.

    Args:
        depth: Layers, 6n + 4: three stages of n blocks.
        widths: Channels of each stage, in the paper multiples of 16, 32 and 64.
        classes: Outputs.
        channels: Of the images.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Conv2d(channels, STEM, 3, 1, 1, bias=False)
    inputs = STEM
    for stage, outputs in enumerate(widths):
        for block in range((depth - 4) // 6):
            stride = 2 if block == 0 and stage > 0 else 1
            layers[f"stage{stage + 1}_{block + 1}"] = WideBlock(inputs, outputs, stride)
            inputs = outputs
    layers["norm"] = nn.BatchNorm2d(inputs)
    layers["relu"] = nn.ReLU()
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flat"] = nn.Flatten()
    layers["head"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)
