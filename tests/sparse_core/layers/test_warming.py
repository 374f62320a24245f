"""Kernels that were compiled ahead are those that layers use."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sparse_core import warmup
from sparse_core.kernels import jit

TRAIN = """
import torch
from torch import nn
from sparse_core import SparseConfig, sparsify, warmup
from sparse_core.kernels import jit
from sparse_core.networks.residual import Block

warmup(groups=(1,), batches=(), convolutions=[(3, 2, 6), (3, 1, 3)])
first = [nn.Conv2d(5, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
net = nn.Sequential(*first, Block(8, 8, 1), nn.MaxPool2d(2, 1), nn.AvgPool2d(2))
sparsify(net, SparseConfig(method="srigl", sparsity=0.5, backend="condensed", dense=()))
before = jit.compilations
for form in (torch.contiguous_format, torch.channels_last):
    net(torch.randn(20, 5, 6, 6).contiguous(memory_format=form).requires_grad_()).sum().backward()
print(before > 0, jit.compilations - before)
"""


@pytest.mark.slow
def test_a_chain_of_convolutions_finds_its_kernels(tmp_path):
    environment = {**os.environ, jit.CACHE_VARIABLE: str(tmp_path)}
    words = [sys.executable, "-c", TRAIN]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "0"]


def test_what_cannot_be_convolved_is_refused():
    with pytest.raises(ValueError, match="stride=0: must be an integer of at least 1"):
        warmup(groups=(1,), batches=(), convolutions=[(3, 0, 6)])
    with pytest.raises(ValueError, match="group must be one of"):
        warmup(groups=(3,), batches=(), convolutions=[(3, 1, 6)])
    assert warmup(groups=(), batches=()) >= 0
