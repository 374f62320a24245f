"""How much of a policy's trunk finished tasks hold, and whether another one fits beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from sparse_core import Engine
from sparse_core.checks import InputError
from sparse_core.weights.initialisation import draw_mask
from sparse_core.weights.tensor import SparseTensor


def held(tensor: SparseTensor) -> float:
    """Return which fraction of a weight finished tasks hold."""
    return 0.0 if tensor.protected is None else float(tensor.protected.float().mean())


def held_of_all(trunk: Iterable[SparseTensor]) -> float:
    """Return which fraction of several weights finished tasks hold."""
    tensors = list(trunk)
    count = sum(int(t.protected.sum()) for t in tensors if t.protected is not None)
    return count / (sum(tensor.numel for tensor in tensors) or 1)


def newly_held(masks: Sequence[Mapping[str, Tensor]]) -> list[int]:
    """Count for each task the weights in its masks that are in no mask before.

    Args:
        masks: Of each task, bool, by weight.
    """
    held: dict[str, Tensor] = {}
    counts = []
    for one in masks:
        count = 0
        for name, mask in one.items():
            earlier = held.get(name, torch.zeros_like(mask))
            count += int((mask & ~earlier).sum())
            held[name] = mask | earlier
        counts.append(count)
    return counts


def room(trunk: Iterable[SparseTensor]) -> int | None:
    """Return how many tasks fit beside each other, at most; None: any number."""
    return min((tensor.numel // tensor.budget for tensor in trunk), default=None)


def check_room(engines: Iterable[Engine], label: int) -> None:
    """Draw a task's masks without keeping them.

    Raises:
        InputError: If a layer has too little room for the task.
    """
    for engine in engines:
        for tensor in engine.tensors:
            try:
                draw_mask(tensor, engine.config, label)
            except ValueError as error:
                raise InputError(
                    f"task {label} does not fit: {error}; raise the sparsity, widen the layer, "
                    "or let tasks share weights with share='reuse'"
                ) from None


@contextmanager
def as_if_finished(trunk: Iterable[SparseTensor]) -> Iterator[None]:
    """Keep the weights of the task in training from being drawn, inside a `with` block."""
    with ExitStack() as stack:
        for tensor in trunk:
            before = tensor.protected
            stack.callback(_protect_as, tensor, before, tensor.companion("frozen"))
            active = tensor.active().reshape(tensor.shape)
            tensor.protect(active if before is None else active | before)
        yield


def _protect_as(tensor: SparseTensor, protected: Tensor | None, frozen: Tensor | None) -> None:
    tensor.set_companion("protected", protected)
    tensor.set_companion("frozen", frozen)
