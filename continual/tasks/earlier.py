"""The output of a task that is not the one in training, computed in the same network.

Nothing is written into the network: masks and the task's own tensors replace what is in it for the
length of one call, hence tasks can be mixed in one batch and one graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from continual.tasks.task import TaskState, TensorPlace
from sparse_core.checks import InputError
from sparse_core.kernels.format import Pattern
from sparse_core.layers.companions import key
from sparse_core.layers.sharing import Lent
from sparse_core.layers.state import Condensed
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.masked import MaskedTensor
from sparse_core.weights.tensor import SparseTensor


def frozen_output(
    model: nn.Module,
    places: Sequence[TensorPlace],
    tensors: Sequence[SparseTensor],
    task: TaskState,
    x: Tensor,
    lent: Mapping[str, Tensor | Lent],
) -> Tensor:
    """Compute an isolated task's logits from its own weights and nothing else.

    Args:
        model: The network.
        places: The places of a task's own tensors.
        tensors: The sparse weights, of each of which the task has a mask.
        task: An finished task.
        x: `(batch, ...)`.
        lent: Weights of earlier tasks that it reads beside its mask, by name; see
            `continual.tasks.isolation.readable`.

    Returns:
        `(batch, classes)`, through which no gradient flows.
    """
    parts = {place.name: task.value(place.name) for place in places}
    topologies = {}
    for tensor in tensors:
        beside = lent.get(tensor.name)
        if isinstance(tensor, CondensedTensor):
            assert not isinstance(beside, Tensor)
            topologies[tensor.layer] = task.pattern(tensor), beside
            continue
        assert isinstance(tensor, MaskedTensor)
        mask = task.masks.get(tensor.name, tensor.weight.shape)
        if isinstance(beside, Tensor):
            mask |= beside
        weight = torch.where(mask, parts.get(tensor.name, tensor.frozen), 0.0)
        parts |= {key(tensor.name, "mask"): mask, tensor.name: weight}
        if tensor.companion("frozen") is not None:
            parts[key(tensor.name, "frozen")] = weight
        if tensor.companion("given") is not None:
            parts[key(tensor.name, "given")] = parts[tensor.bias_name]
    with torch.no_grad(), evaluating(model), _in_shape_of(topologies):
        output = functional_call(model, parts, (x,), tie_weights=False)
    logits: Tensor = output
    if torch.is_grad_enabled():
        anchor = torch.zeros((), requires_grad=True)
        logits = _Constant.apply(output, anchor)  # type: ignore[no-untyped-call]
    return logits


def shared_output(
    model: nn.Module,
    places: Sequence[TensorPlace],
    heads: Sequence[SparseTensor],
    tasks: Mapping[int, TaskState],
    labels: Tensor,
    x: Tensor,
) -> Tensor:
    """Compute the logits of tasks that share all but their heads, in one pass; gradients flow.

    Args:
        model: The network, with the head of the task in training, if there is one.
        places: The places of the head's tensors.
        heads: The sparse weights of the head.
        tasks: The others among `labels`, by label.
        labels: `(batch,)`, the task of each sample.
        x: `(batch, ...)`.

    Returns:
        `(batch, classes)`.

    Raises:
        ValueError: If samples do not reach the head one by one.
    """
    others = dict(tasks)
    parts: dict[str, Tensor] = {}
    absent = bool(torch.isin(labels, torch.tensor([*others], device=labels.device)).all())
    if absent:
        _, task = others.popitem()
        parts = {place.name: task.tensor(place) for place in places}
        for head in heads:
            parts[key(head.name, "mask")] = task.masks.get(head.name, head.weight.shape)

    def put_others(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        features = inputs[0]
        if len(features) != len(labels):
            raise InputError(f"the head got {len(features)} samples of a batch of {len(labels)}")
        for label, task in others.items():
            own = {place.key: task.tensor(place) for place in places}
            for head in heads:
                mask = task.masks.get(head.name, head.weight.shape)
                own[head.parameter] = torch.where(mask, own[head.parameter], 0.0)
            rows = (labels == label).nonzero().squeeze(1)
            answers = F.linear(features[rows], own["weight"], own.get("bias"))
            output = output.index_copy(0, rows, answers)
        return output

    handle = places[0].module.register_forward_hook(put_others)
    try:
        with _unwatched(heads if absent else ()):
            logits: Tensor = functional_call(model, parts, (x,), tie_weights=False)
    finally:
        handle.remove()
    return logits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Let no running statistic of an finished task change."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _in_shape_of(topologies: Mapping[Condensed, tuple[Pattern, Lent | None]]) -> Iterator[None]:
    """Let condensed layers take their values to be of these patterns, and read what is lent."""
    before = {
        layer: (layer.pattern, layer.shared, layer.weight_frozen, layer.weight_given)
        for layer in topologies
    }
    for layer, (pattern, lent) in topologies.items():
        layer._pattern, layer._shared, layer.weight_frozen, layer.weight_given = (
            pattern,
            lent,
            None,
            None,
        )
    try:
        yield
    finally:
        for layer, state in before.items():
            layer._pattern, layer._shared, layer.weight_frozen, layer.weight_given = state


@contextmanager
def _unwatched(tensors: Sequence[SparseTensor]) -> Iterator[None]:
    """Keep the gradients of another task's head out of the growth of the one in training."""
    armed = [tensor.tap for tensor in tensors if tensor.tap.armed]
    for tap in armed:
        tap.armed = False
    try:
        yield
    finally:
        for tap in armed:
            tap.armed = True


class _Constant(torch.autograd.Function):
    """An output that is part of the graph and passes no gradient on.

    Replay, EWC and the like call `backward` on losses of finished tasks alone, which must not fail.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor) -> Tensor:
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None
