"""What `TaskMasks` refuses before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from continual.avalanche_compat import avalanche
from sparse_core.checks import InputError
from sparse_core.condensed import CondensedTensor
from sparse_core.engine import Engine
from sparse_core.registry import METHODS


def check_pruned(engine: Engine) -> None:
    """Check that a method which starts dense has come down to the budget of a task.

    Raises:
        RuntimeError: Saying how many weights there are.
    """
    if not METHODS[engine.config.method].starts_dense:
        return
    active = sum(tensor.count() for tensor in engine.tensors)
    budget = sum(tensor.budget for tensor in engine.tensors)
    if active > budget:
        raise RuntimeError(
            f"method {engine.config.method!r} was to prune to {budget} weights, {active} are left "
            f"after {engine.steps} steps: train for the whole length of the task before it ends"
        )


def refuse_dynamic(model: nn.Module) -> None:
    """Refuse a network with heads that grow by themselves.

    Raises:
        ValueError: Naming the layer.
    """
    dynamic = avalanche.models.DynamicModule
    for name, module in model.named_modules():
        if isinstance(module, dynamic):
            raise InputError(
                f"{type(module).__name__} {name!r} grows by itself: each task has its own head "
                "here, let the network end in a plain nn.Linear"
            )


def refuse_move(engine: Engine, fn: Callable[[Tensor], Tensor]) -> None:
    """Refuse to bring condensed layers to another device, or to a dtype that has no kernels.

    Args:
        engine: The engine.
        fn: What is about to be applied to all tensors.

    Raises:
        ValueError: Saying where to. Nothing was moved then.
    """
    condensed = [t for t in engine.tensors if isinstance(t, CondensedTensor)]
    if not condensed:
        return
    to = fn(torch.empty(0, dtype=condensed[0].weight.dtype))
    if to.device.type != "cpu" or to.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"backend={engine.config.backend!r}: condensed layers cannot go to {to.device}, "
            f"{to.dtype}; use backend='masked' there",
            field="backend",
        )


def still_in_training(label: int | None) -> str:
    """Say that a task cannot begin yet."""
    return (
        f"task {label} is still in training: end it first "
        "(is MaskIsolation() among the strategy's plugins?)"
    )


def never_trained(label: int, labels: Sequence[int]) -> str:
    """Say that there is no such task among those of `labels`."""
    known = ", ".join(map(str, labels)) or "none yet"
    return (
        f"task label {label}: was never trained; tasks trained: {known} (TaskMasks(..., "
        "unseen='latest') lets the latest answer)"
    )
