"""What condensed layers compute, as ordinary operations of torch on their dense weights.

To torch, kernels are a black box. Where it has to see inside, layers go this way instead, which is
slower, gives the same numbers, and has all their derivatives:

    traced and exported     `torch.jit.trace`, `torch.onnx.export`, `torch.export`
    transformed             `torch.func`, forward-mode derivatives, dispatch modes
    differentiated again    the backward pass of a chain under `create_graph=True`
    not for kernels         float64, empty batches

`torch.compile` does not see inside: it compiles what is around the kernels (`opaque`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C import _are_functorch_transforms_active, _is_tracing, _len_torch_dispatch_stack
from torch._C._dynamo.eval_frame import get_eval_frame_callback
from torch._dynamo.decorators import skip
from torch.autograd import forward_ad

from sparse_core.kernels import plan
from sparse_core.kernels.format import Pattern
from sparse_core.layers.copies import see_training
from sparse_core.layers.sharing import constant
from sparse_core.layers.state import Condensed

Layers = Sequence[tuple[Condensed, str | None]]
"""Condensed linear layers, each with the activation after it: `relu`, `tanh` or None."""

T = TypeVar("T")
A = TypeVar("A")
R = TypeVar("R")

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
}


class _Stage(NamedTuple):
    """A layer at work: its input, its dense weight, and its output before the activation."""

    input: Tensor
    weight: Tensor
    output: Tensor


def looked_into() -> bool:
    """Whether torch follows each operation now, as in a trace, and would not see the kernels'."""
    return (
        _is_tracing()
        or _are_functorch_transforms_active()
        or _len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
    )


def opaque(function: Callable[[T, A], R]) -> Callable[[T, A], R]:
    """Let `torch.compile` call a function as it stands, and compile what is before and after it.

    `torch.compiler.disable` does that too, but costs each call much more.
    """
    apart = torch.compiler.disable(function)  # type: ignore[no-untyped-call]

    @skip
    @functools.wraps(function)
    def call(owner: T, input: A) -> R:
        if get_eval_frame_callback() is None:
            return function(owner, input)
        return cast(R, apart(owner, input))

    reason = "kernels are no graph; torch.export needs strict=False"
    vars(call)["_torchdynamo_disable_msg"] = reason
    return cast(Callable[[T, A], R], call)


def weight_of(layer: Condensed, values: Tensor | None = None) -> Tensor:
    """Return the `(rows, cols)` weight that a layer reads, differentiable where it trains.

    Args:
        layer: The layer.
        values: Its values, by default those that it has.
    """
    numbers = layer.values if values is None else values
    pattern, shared = layer.pattern, layer.shared
    if shared is not None:
        pattern, numbers = shared.read_tensor(pattern, numbers)
    flat, places = (found.to(numbers.device) for found in _where(pattern))
    dense = numbers.new_zeros(pattern.out_features * pattern.in_features)
    return dense.scatter(0, flat, numbers[places]).reshape(
        pattern.out_features, pattern.in_features
    )


def _where(pattern: Pattern) -> tuple[Tensor, Tensor]:
    """Return where in the flat matrix, and where in the values, each active weight is."""

    def find() -> tuple[Tensor, Tensor]:
        rows, columns, places = pattern.coordinates()
        flat = rows * pattern.in_features + columns
        return constant(flat), constant(places)

    return plan.keep(pattern, ("dense",), find)


def run(layers: Layers, input: Tensor) -> Tensor:
    """Apply condensed linear layers and activations one after the other.

    Args:
        layers: The chain.
        input: `(..., in)`; under autocast of any floating type.

    Returns:
        `(..., out)`.
    """
    device = layers[0][0].values.device.type
    if torch.is_autocast_enabled(device):
        input = input.to(layers[0][0].values.dtype)
    parameters = [
        parameter
        for layer, _ in layers
        for parameter in (layer._parameters["values"], layer._parameters["bias"])
        if parameter is not None
    ]
    with torch.autocast(device, enabled=False):
        out, stages = _through(layers, input, parameters)
    for (layer, _), stage in zip(layers, stages, strict=True):
        _watch(layer, stage)
        see_training(layer, stage.output)
    return out


def gradients(
    layers: Layers, tensors: Sequence[Tensor], gradient: Tensor, needed: Sequence[bool]
) -> list[Tensor | None]:
    """Differentiate a chain: in grad mode, so that the result can be differentiated in turn.

    Args:
        layers: The chain.
        tensors: Its input `(batch, in)`; values and bias, where there is one, of each layer.
        gradient: `(batch, out)` gradient of its output.
        needed: For each of `tensors`, whether its gradient is asked for.

    Returns:
        The gradients; None where not asked for.
    """
    again = torch.is_grad_enabled()
    with torch.autocast(gradient.device.type, enabled=False):
        with torch.enable_grad():
            # One tensor may have been computed from another: views part them, for this pass.
            views = [tensor.view_as(tensor) for tensor in tensors]
            out, stages = _through(layers, views[0], views[1:])
        wanted = [view for view, need in zip(views, needed, strict=True) if need]
        armed = [
            (layer, stage)
            for (layer, _), stage in zip(layers, stages, strict=True)
            if layer.weight_tap.armed and stage.weight.requires_grad
        ]
        wanted += [stage.output for _, stage in armed]
        found = iter(torch.autograd.grad(out, wanted, gradient, create_graph=again))
    result = [next(found) if need else None for need in needed]
    for (layer, stage), signal in zip(armed, found, strict=True):
        layer.weight_tap.receive_product(stage.input, signal, layer.values)
        if again:
            _watch(layer, stage)
    return result


def _watch(layer: Condensed, stage: _Stage) -> None:
    """Let a layer's tap watch the coming backward passes, as a masked layer's does."""
    tap = layer.weight_tap
    if tap.armed:
        tap.watch(stage.weight, layer.values)
        tap.watch_signals(stage.input, stage.output, layer.values)


def _through(
    layers: Layers, x: Tensor, parameters: Sequence[Tensor]
) -> tuple[Tensor, list[_Stage]]:
    remaining, stages = iter(parameters), []
    for layer, activation in layers:
        weight = weight_of(layer, next(remaining))
        bias = bias_of(layer, None if layer._parameters["bias"] is None else next(remaining))
        output = F.linear(x, weight, bias)
        stages.append(_Stage(x, weight, output))
        x = output if activation is None else _ACTIVATIONS[activation](output)
    return x, stages


def bias_of(layer: Condensed, bias: Tensor | None) -> Tensor | None:
    """Return a layer's bias as it is read; no gradient flows to neurons that do not train.

    Args:
        layer: The layer.
        bias: Its bias, or what stands for it; None if it has none.
    """
    if bias is None:
        return None
    live = layer.weight_live
    if layer.weight_given is not None:
        assert layer.weight_reserved is not None
        bias = torch.where(layer.weight_reserved, layer.weight_given, bias)
    return bias if live is None else torch.where(live, bias, bias.detach())
