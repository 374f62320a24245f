"""Runs of condensed layers and the activations between them, in the kernels' own layout throughout.

The input is packed once and the output unpacked once; ReLU and tanh work in the blocked layout. A
single layer is a chain of one. Where no gradient is asked for and the batch is tiny, samples go
through one by one instead, which needs no packing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparse_core.kernels import cpu, reference
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.masked import forbid_fused_encoders

ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Tanh: "tanh"}
SMALL_BATCH = 2
"""Samples up to which matrix-vector products beat a tile of a matrix-matrix product."""

Array = NDArray[Any]
Step = CondensedLinear | nn.Module


def run(steps: Sequence[Step], input: Tensor) -> Tensor:
    """Apply condensed layers and activations one after the other.

    Args:
        steps: `CondensedLinear`, `nn.ReLU` and `nn.Tanh` modules; the first one is a layer.
        input: `(..., in)`, float32 or float64 on the CPU.

    Returns:
        `(..., out)`.

    Raises:
        ValueError: If the last dimension or the device of the input is wrong.
        TypeError: If its dtype is not that of the weights.
    """
    first = cast(CondensedLinear, steps[0])
    _check(first, input)
    rows = input.reshape(-1, first.in_features)
    layers = [step for step in steps if isinstance(step, CondensedLinear)]
    parameters = [p for layer in layers for p in (layer.values, layer.bias) if p is not None]
    needs_gradient = torch.is_grad_enabled() and (
        rows.requires_grad or any(p.requires_grad for p in parameters)
    )
    if needs_gradient:
        out = cast(Tensor, _Chain.apply(rows, steps, *parameters))  # type: ignore[no-untyped-call]
    else:
        out = torch.from_numpy(_infer(steps, rows.detach().contiguous().numpy()))
    return out.reshape(*input.shape[:-1], layers[-1].out_features)


def _check(layer: CondensedLinear, input: Tensor) -> None:
    if input.device.type != "cpu":
        raise ValueError(f"condensed layers run on the CPU, got an input on {input.device}")
    if input.dim() == 0 or input.shape[-1] != layer.in_features:
        raise ValueError(f"input must be (..., {layer.in_features}), got {tuple(input.shape)}")
    if input.dtype != layer.values.dtype:
        raise TypeError(f"input is {input.dtype}, the layer's weights are {layer.values.dtype}")


def _plain(rows: Array) -> bool:
    return rows.dtype == np.float64 or rows.shape[0] == 0


def _bias(layer: CondensedLinear) -> Array | None:
    return None if layer.bias is None else layer.bias.detach().numpy()


def _infer(steps: Sequence[Step], rows: Array) -> Array:
    threads = torch.get_num_threads()
    if _plain(rows) or rows.shape[0] <= SMALL_BATCH:
        for step in steps:
            rows = _small(step, rows, threads)
        return rows
    batch = rows.shape[0]
    blocked = cpu.pack(rows, threads=threads)
    for step in steps:
        blocked = _forward(step, blocked, batch, threads)
    return cpu.unpack(blocked, batch, threads=threads)


def _small(step: Step, rows: Array, threads: int) -> Array:
    if not isinstance(step, CondensedLinear):
        return np.maximum(rows, 0) if ACTIVATIONS[type(step)] == "relu" else np.tanh(rows)
    values = step.values.detach().numpy()
    if _plain(rows):
        return reference.forward(step.pattern, values, rows, _bias(step))
    out = np.empty((len(rows), step.out_features), np.float32)
    for sample, result in zip(rows, out, strict=True):
        cpu.gemv(step.pattern, values, sample, _bias(step), out=result, threads=threads)
    return out


def _forward(step: Step, blocked: Array, batch: int, threads: int) -> Array:
    """Apply one step; an activation overwrites its input, which is the step before's own output."""
    if not isinstance(step, CondensedLinear):
        return cpu.activate(ACTIVATIONS[type(step)], blocked, out=blocked, threads=threads)
    values = step.values.detach().numpy()
    return cpu.forward(step.pattern, values, blocked, batch, _bias(step), threads=threads)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, steps: Sequence[Step], *parameters: Tensor) -> Tensor:
        ctx.steps = list(steps)
        ctx.patterns = [s.pattern if isinstance(s, CondensedLinear) else None for s in steps]
        ctx.threads = threads = torch.get_num_threads()
        ctx.save_for_backward(*parameters)
        array = rows.detach().contiguous().numpy()
        ctx.batch = batch = len(array)
        ctx.plain = _plain(array)
        signal = array if ctx.plain else cpu.pack(array, threads=threads)
        ctx.signals = [signal]
        for step in steps:
            if ctx.plain:
                signal = _small(step, signal, threads)
            else:
                signal = _forward(step, signal, batch, threads)
            ctx.signals.append(signal)
        out = signal if ctx.plain else cpu.unpack(signal, batch, threads=threads)
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parameters = list(ctx.saved_tensors)
        needed = list(ctx.needs_input_grad[2:])
        gradients: list[Tensor | None] = []
        signal = gradient.contiguous().numpy()
        if not ctx.plain:
            tile = ctx.signals[0].shape[2]
            signal = cpu.pack(signal, tile=tile, threads=ctx.threads)
        for index in reversed(range(len(ctx.steps))):
            step, pattern = ctx.steps[index], ctx.patterns[index]
            before, after = ctx.signals[index], ctx.signals[index + 1]
            if pattern is None:
                signal = _activation_backward(step, signal, after, ctx.plain, ctx.threads)
                continue
            _tell_tap(step, before, signal, ctx)
            has_bias = step.bias is not None
            need_bias = needed.pop() if has_bias else False
            need_values = needed.pop()
            if has_bias:
                parameters.pop()
            values = parameters.pop().detach().numpy()
            need_input = index > 0 or ctx.needs_input_grad[0]
            products = _layer_backward(
                ctx, pattern, values, before, signal, (need_input, need_values, need_bias)
            )
            signal, value_gradient, bias_gradient = products
            if has_bias:
                gradients.append(_live_only(step, bias_gradient))
            gradients.append(value_gradient)
        first = None
        if ctx.needs_input_grad[0]:
            rows = signal if ctx.plain else cpu.unpack(signal, ctx.batch, threads=ctx.threads)
            first = torch.from_numpy(rows)
        return (first, None, *reversed(gradients))


def _layer_backward(
    ctx: Any,
    pattern: Any,
    values: Array,
    before: Array,
    signal: Array,
    need: tuple[bool, bool, bool],
) -> tuple[Array, Tensor | None, Tensor | None]:
    batch, threads, capacity = ctx.batch, ctx.threads, values.size
    if ctx.plain:
        inputs = reference.grad_input(pattern, values, signal)
        of_values = reference.grad_values(pattern, before, signal, capacity)
        of_bias = reference.grad_bias(signal)
        return inputs, torch.from_numpy(of_values), torch.from_numpy(of_bias)
    need_input, need_values, need_bias = need
    value_gradient = bias_gradient = None
    if need_values:
        value_gradient = torch.from_numpy(
            cpu.grad_values(pattern, before, signal, batch, capacity=capacity, threads=threads)
        )
    if need_bias:
        bias_gradient = torch.from_numpy(cpu.grad_bias(signal, batch, threads=threads))
    if need_input:
        signal = cpu.grad_input(pattern, values, signal, batch, threads=threads)
    return signal, value_gradient, bias_gradient


def _activation_backward(
    step: nn.Module, signal: Array, after: Array, plain: bool, threads: int
) -> Array:
    name = ACTIVATIONS[type(step)]
    if plain:
        return signal * ((after > 0) if name == "relu" else 1 - after**2)
    return cpu.activate_backward(name, signal, after, out=signal, threads=threads)


def _live_only(layer: CondensedLinear, gradient: Tensor | None) -> Tensor | None:
    if gradient is not None and layer.weight_live is not None:
        gradient[~layer.weight_live] = 0
    return gradient


def _tell_tap(layer: CondensedLinear, before: Array, signal: Array, ctx: Any) -> None:
    if not layer.weight_tap.armed:
        return
    if not ctx.plain:
        before = cpu.unpack(before, ctx.batch, threads=ctx.threads)
        signal = cpu.unpack(signal, ctx.batch, threads=ctx.threads)
    layer.weight_tap.receive_signals(
        torch.from_numpy(before), torch.from_numpy(signal.copy()), layer.values
    )


class CondensedSequential(nn.Sequential):
    """`nn.Sequential` that runs its condensed layers and the activations between them as chains."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply the modules in order."""
        for steps in _runs(self):
            input = steps[0](input) if len(steps) == 1 else run(steps, input)
        return input


def _runs(modules: nn.Sequential) -> Iterator[list[nn.Module]]:
    steps: list[nn.Module] = []
    for module in modules:
        joins = type(module) is CondensedLinear or (bool(steps) and type(module) in ACTIVATIONS)
        if joins and not watched(module):
            steps.append(module)
            continue
        if steps:
            yield steps
        steps = []
        yield [module]
    if steps:
        yield steps


def watched(module: nn.Module) -> bool:
    """Whether a hook wants to see what goes through a module."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def chain(root: nn.Module) -> None:
    """Let each `nn.Sequential` in a module run its condensed layers as chains, in place."""
    if any(type(m) is CondensedLinear for m in root.modules()):
        forbid_fused_encoders(root)
    for module in root.modules():
        if type(module) is nn.Sequential and any(type(m) is CondensedLinear for m in module):
            module.__class__ = CondensedSequential
