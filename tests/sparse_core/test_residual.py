"""Residual networks have the sizes that they are known for."""

from __future__ import annotations

import pytest
import torch

from sparse_core.networks.residual import resnet


def weights(net) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("width", "stages", "blocks", "count"),
    [
        # 11,173,962 is what kuangliu/pytorch-cifar's ResNet18 has. Of ResNet-20 the paper says
        # 0.27 million with shortcuts that pad; the two of 1 x 1 have 16 * 32 + 2 * 32 and
        # 32 * 64 + 2 * 64 more.
        (64, 4, 2, 11_173_962),
        (16, 3, 3, 269_722 + 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64),
    ],
)
def test_sizes(width, stages, blocks, count):
    assert weights(resnet(width, stages, blocks)) == count


def test_each_stage_but_the_first_halves_the_image():
    net = resnet(4, 3, 1, classes=7, channels=1)
    x = net[:-3](torch.zeros(2, 1, 8, 8))
    assert x.shape == (2, 16, 2, 2) and net(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
