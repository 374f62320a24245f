"""Torch's optimizers made ours and back, in place: parameters, state, options and hooks stay."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from sparse_core.optim.adam import Adam, AdamW
from sparse_core.optim.rmsprop import RMSprop
from sparse_core.optim.sgd import SGD

OURS: dict[type[Optimizer], type[Optimizer]] = {
    torch.optim.Adam: Adam,
    torch.optim.AdamW: AdamW,
    torch.optim.SGD: SGD,
    torch.optim.RMSprop: RMSprop,
}
"""Torch's classes and their subclasses of ours."""

_TORCHS = {ours: torchs for torchs, ours in OURS.items()}


def torch_class(optimizer: Optimizer) -> type[Optimizer]:
    """Return the class of an optimizer, torch's in place of ours."""
    return _TORCHS.get(type(optimizer), type(optimizer))


def use_kernels(optimizer: Optimizer) -> None:
    """Let an optimizer of torch's make its steps by our kernels; another one stays as it is."""
    optimizer.__class__ = OURS.get(type(optimizer), type(optimizer))


def use_torch(optimizer: Optimizer) -> None:
    """Let an optimizer of ours make its steps as torch does; another one stays as it is."""
    optimizer.__class__ = torch_class(optimizer)
