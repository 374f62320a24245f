"""What can be told of a module from outside: whether it changes anything, whether one looks on."""

from __future__ import annotations

from torch import nn


def passes_through(module: nn.Module) -> bool:
    """Whether a module gives what it is given: dropout that drops nothing now, `nn.Identity`."""
    if type(module) is nn.Dropout:
        idle = module.p == 0 or not module.training
    else:
        idle = type(module) is nn.Identity
    return idle and not watched(module)


def watched(module: nn.Module) -> bool:
    """Whether a module has forward or backward hooks."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
