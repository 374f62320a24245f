"""Running a module to measure something, without changing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode, without gradients, for the length of a block.

    Batch statistics stay as they are, dropout draws nothing, gradient hooks see nothing.
    """
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for child, training in modes:
            child.training = training
