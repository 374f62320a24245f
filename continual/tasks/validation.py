"""What `TaskMasks` refuses before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from continual.avalanche_compat import avalanche
from continual.tasks.pruning import left_to_prune
from continual.tasks.rules import SELECTORS, SHARING_POLICIES, check_isolation
from sparse_core.checks import InputError, at_least, one_of, within
from sparse_core.config import SparseConfig
from sparse_core.engine import Engine
from sparse_core.weights.condensed import CondensedTensor

UNSEEN = ("evaluation", "error", "latest")


def check_arguments(
    config: SparseConfig,
    isolation: str,
    share: str,
    reserve: float,
    unseen: str,
    infer: str | None,
    tasks: int | None,
) -> None:
    """Check the arguments of `TaskMasks`, each by itself.

    Raises:
        ValueError: Naming the argument and what is allowed.
    """
    one_of("unseen", unseen, UNSEEN)
    if infer is not None:
        one_of("infer", infer, SELECTORS)
    one_of("share", share, SHARING_POLICIES)
    within("reserve", reserve, 0, 1, open_right=True)
    check_isolation(isolation, config)
    if tasks is not None:
        at_least("tasks", tasks, 1)
    if config.embeddings:
        raise InputError(
            "embeddings=True: tasks do not share sparse embeddings; use False", field="embeddings"
        )


def check_pruned(engine: Engine) -> None:
    """Check that a method which starts dense has come down to the budget of a task.

    Raises:
        RuntimeError: Saying how many weights there are.
    """
    surplus = left_to_prune(engine)
    if surplus:
        budget = sum(tensor.budget for tensor in engine.tensors)
        raise RuntimeError(
            f"method {engine.config.method!r} was to prune to {budget} weights, {budget + surplus} "
            f"are left after {engine.steps} steps: train for the whole length of the task before "
            "it ends, or prune() it"
        )


def check_network(model: nn.Module) -> None:
    """Refuse a network whose layers change by themselves, or are not yet what they will be.

    Raises:
        ValueError: Naming the layer.
    """
    if any(hasattr(module, "sparse_engine") for module in model.modules()):
        raise InputError(
            f"{type(model).__name__} is sparse already: pass the dense network, which is made "
            "sparse here, and its SparseConfig"
        )
    for name, module in model.named_modules():
        kind = type(module).__name__
        place = f"layer {name!r}" if name else "the network"
        if isinstance(module, avalanche.models.DynamicModule):
            raise InputError(
                f"{place} ({kind}) grows by itself: each task has its own head here, let the "
                "network end in a plain nn.Linear"
            )
        lazy: Any = module if isinstance(module, LazyModuleMixin) else None
        if lazy is not None and lazy.has_uninitialized_params():
            raise InputError(
                f"{place} ({kind}) does not know its shape yet: pass a batch through the network "
                "first, or use the layer that is not lazy"
            )


def shared_backend(config: SparseConfig, model: nn.Module) -> SparseConfig:
    """Return a configuration with which tasks can share a network's weights where they are.

    On a GPU condensed layers read no weights of other tasks, so `auto` means masks there.

    Raises:
        ValueError: If condensed layers were asked for.
    """
    there = next((p.device for p in model.parameters() if not p.is_cpu), None)
    if there is None or config.backend == "masked":
        return config
    if config.backend == "condensed":
        raise InputError(
            f"backend='condensed': tasks share condensed layers on the CPU only, the network is on "
            f"{there}; use backend='masked' there",
            field="backend",
        )
    return replace(config, backend="masked")


def check_move(engine: Engine, fn: Callable[[Tensor], Tensor]) -> None:
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


def never_moved(label: int, method: str) -> str:
    """Say that a task was trained by an optimizer that its masks know nothing of."""
    return (
        f"task {label}: method {method!r} moves masks on the steps of an optimizer, and none was "
        f"attached: call attach(optimizer) after begin({label}), train, and end then"
    )


def never_stepped(label: int) -> str:
    """Say that a task was trained by an optimizer that is older than the task's tensors."""
    return (
        f"task {label}: no step changed any of its own tensors, which are new with each task: call "
        f"attach(optimizer) after begin({label}), or make the optimizer then"
    )


def never_trained(label: int, labels: Sequence[int]) -> str:
    """Say that there is no such task among those of `labels`."""
    known = ", ".join(map(str, labels)) or "none yet"
    return (
        f"task label {label}: was never trained; tasks trained: {known} (TaskMasks(..., "
        "unseen='latest') lets the latest answer)"
    )
