"""Which backend `auto` means, now that Stable-Baselines3 says where a policy is to run.

A policy is built on the CPU, with condensed layers where they pay there. Only then it is moved to
the device that was asked for: one that leaves the CPU gets masks first, unless `condensed` was
asked for and can run there, and keeps them from there on. So what a policy is made of follows from
its own device, not from what the machine has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from sparse_core import Engine
from sparse_core.checks import InputError
from sparse_core.kernels.gpu.support import why_not
from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.state import Condensed
from sparse_core.optim import use_torch


class FollowsDevice:
    """Mixin of a module with sparse layers, put before its class: `auto` is masked off the CPU."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Change all tensors, as every method does that moves or casts a module."""
        module: Any = self
        device = fn(torch.empty(0)).device
        if device.type != "cpu":
            leave_cpu(module, device)
        super()._apply(fn, recurse)  # type: ignore[misc]
        return self


def leave_cpu(module: nn.Module, device: torch.device) -> None:
    """Give the layers of a module that `auto` condensed their masked form, in place.

    Its optimizers, whose kernels are for the CPU, make their steps as torch does from there on.

    Args:
        module: With engines anywhere in it, attached or not.
        device: Where it is going.

    Raises:
        ValueError: If layers are condensed because that was asked for, and cannot be there.
            Nothing is changed then.
    """
    found = [getattr(child, "sparse_engine", None) for child in module.modules()]
    engines = [engine for engine in found if isinstance(engine, Engine)]
    for engine in engines:
        condensed = any(isinstance(tensor.layer, Condensed) for tensor in engine.tensors)
        reason = why_not(device, torch.float32)
        if condensed and engine.config.backend == "condensed" and reason is not None:
            raise InputError(
                f"backend='condensed': {reason}; use backend masked or auto, or device='cpu'",
                field="backend",
            )
    for engine in engines:
        if engine.config.backend == "auto":
            engine.use_masks()
        for optimizer in engine.trainers:
            use_torch(optimizer)
    for child in module.modules():
        left = any(isinstance(step, Condensed) for step in child.children())
        if type(child) is CondensedSequential and not left:
            child.__class__ = nn.Sequential  # type: ignore[assignment]
