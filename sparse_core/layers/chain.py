"""Runs of condensed layers and the activations between them, in the kernels' own layout throughout.

The input is packed once and the output unpacked once; ReLU and tanh work in the blocked layout. A
single layer is a chain of one. Where no gradient is asked for and the batch is tiny, samples go
through one by one instead, which needs no packing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparse_core.kernels import cpu, linear, linear_backward, linear_forward, reference
from sparse_core.kernels.format import Pattern
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.masked import forbid_fused_encoders
from sparse_core.layers.sharing import Shared

ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Tanh: "tanh"}
SMALL_BATCH = 2
"""Samples up to which matrix-vector products beat a tile of a matrix-matrix product."""

Array = NDArray[Any]


class Link(NamedTuple):
    """A layer of a chain as it is now, and the activation after it.

    Attributes:
        layer: The layer.
        pattern: The weights that it reads.
        values: (at least pattern.size,) what they are worth.
        bias: (out,) or None.
        activation: `relu`, `tanh` or None.
        shared: Which of them are an earlier task's; None: none.
    """

    layer: CondensedLinear
    pattern: Pattern
    values: Array
    bias: Array | None
    activation: str | None
    shared: Shared | None


def run(steps: Sequence[nn.Module], input: Tensor) -> Tensor:
    """Apply condensed layers and activations one after the other.

    Args:
        steps: `CondensedLinear` modules, each with an `nn.ReLU` or `nn.Tanh` behind it or none.
        input: `(..., in)`, float32 or float64 on the CPU.

    Returns:
        `(..., out)`.

    Raises:
        ValueError: If the last dimension or the device of the input is wrong.
        TypeError: If its dtype is not that of the weights.
    """
    first = cast(CondensedLinear, steps[0])
    _check(first, input)
    flat = input.dim() == 2  # a reshape would cost autograd more than it looks
    rows = input if flat else input.reshape(-1, first.in_features)
    links, parameters = _links(steps)
    needs_gradient = torch.is_grad_enabled() and (
        rows.requires_grad or any(p.requires_grad for p in parameters)
    )
    if needs_gradient:
        out = cast(Tensor, _Chain.apply(rows, links, *parameters))  # type: ignore[no-untyped-call]
    else:
        out = torch.from_numpy(_infer(links, rows.detach().contiguous().numpy()))
    return out if flat else out.reshape(*input.shape[:-1], links[-1].layer.out_features)


def _links(steps: Sequence[nn.Module]) -> tuple[list[Link], list[Tensor]]:
    """Return the links of a chain, and the parameters of its layers."""
    links: list[Link] = []
    parameters: list[Tensor] = []
    for i, step in enumerate(steps):
        if isinstance(step, CondensedLinear):
            after = type(steps[i + 1]) if i + 1 < len(steps) else nn.Identity
            parameters += [step.values] if step.bias is None else [step.values, step.bias]
            pattern, values, shared = step.pattern, step.values.detach().numpy(), step.shared
            if shared is not None:
                pattern, values = shared.read(pattern, values)
            bias = None if step.bias is None else step.bias.detach().numpy()
            links.append(Link(step, pattern, values, bias, ACTIVATIONS.get(after), shared))
    return links, parameters


def _check(layer: CondensedLinear, input: Tensor) -> None:
    if not input.is_cpu:
        raise ValueError(f"condensed layers run on the CPU, got an input on {input.device}")
    if input.dim() == 0 or input.shape[-1] != layer.in_features:
        raise ValueError(f"input must be (..., {layer.in_features}), got {tuple(input.shape)}")
    if input.dtype != layer.values.dtype:
        raise TypeError(f"input is {input.dtype}, the layer's weights are {layer.values.dtype}")


def _plain(rows: Array) -> bool:
    return rows.dtype == np.float64 or rows.shape[0] == 0


def _infer(links: Sequence[Link], rows: Array) -> Array:
    threads = torch.get_num_threads()
    if _plain(rows) or rows.shape[0] <= SMALL_BATCH:
        for link in links:
            rows = _small(link, rows, threads)
        return rows
    if len(links) == 1 and links[0].activation != "tanh":
        link = links[0]
        relu = link.activation == "relu"
        return linear(link.pattern, link.values, rows, link.bias, relu=relu, threads=threads)
    batch = rows.shape[0]
    blocked = cpu.pack(rows, threads=threads)
    for link in links:
        blocked = _forward(link, blocked, batch, threads)
    return cpu.unpack(blocked, batch, threads=threads)


def _small(link: Link, rows: Array, threads: int) -> Array:
    if _plain(rows):
        out = reference.forward(link.pattern, link.values, rows, link.bias)
    else:
        out = linear(link.pattern, link.values, rows, link.bias, threads=threads)
    if link.activation is None:
        return out
    return cast(Array, np.maximum(out, 0) if link.activation == "relu" else np.tanh(out))


def _forward(link: Link, blocked: Array, batch: int, threads: int) -> Array:
    relu = link.activation == "relu"
    out = cpu.forward(
        link.pattern, link.values, blocked, batch, link.bias, relu=relu, threads=threads
    )
    if link.activation == "tanh":
        cpu.activate("tanh", out, out=out, threads=threads)
    return out


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, links: Sequence[Link], *parameters: Tensor) -> Tensor:
        ctx.links = links
        ctx.threads = threads = torch.get_num_threads()
        ctx.save_for_backward(*parameters)  # autograd then sees weights changed in place
        array = rows.detach().contiguous().numpy()
        ctx.batch = batch = len(array)
        ctx.plain = _plain(array)
        link = links[0]
        plainest = link.activation is None and link.shared is None
        ctx.single = not ctx.plain and len(links) == 1 and plainest
        if ctx.single:
            out, saved = linear_forward(
                link.pattern, link.values, array, link.bias, threads=threads
            )
            ctx.signals = [saved]
            return torch.from_numpy(out)
        signal = array if ctx.plain else cpu.pack(array, threads=threads)
        ctx.signals = [signal]
        for link in links:
            if ctx.plain:
                signal = _small(link, signal, threads)
            else:
                signal = _forward(link, signal, batch, threads)
            ctx.signals.append(signal)
        out = signal if ctx.plain else cpu.unpack(signal, batch, threads=threads)
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        assert ctx.saved_tensors is not None
        needed = list(ctx.needs_input_grad[2:])
        signal = gradient.contiguous().numpy()
        if not ctx.plain and not ctx.single:
            tile = ctx.signals[0].shape[2]
            signal = cpu.pack(signal, tile=tile, threads=ctx.threads)
        gradients: list[Tensor | None] = []
        for index in reversed(range(len(ctx.links))):
            link, before = ctx.links[index], ctx.signals[index]
            if link.activation is not None:
                signal = _activation_backward(ctx, link.activation, signal, ctx.signals[index + 1])
            _tell_tap(link.layer, before, signal, ctx)
            need_bias = needed.pop() if link.bias is not None else False
            need_values = needed.pop()
            need_input = index > 0 or ctx.needs_input_grad[0]
            signal, of_values, of_bias = _layer_backward(
                ctx, link, before, signal, (need_input, need_values, need_bias)
            )
            if link.bias is not None:
                gradients.append(_live_only(link.layer, _tensor(of_bias)))
            gradients.append(_tensor(of_values))
        first = None
        if ctx.needs_input_grad[0]:
            blocked = not ctx.plain and not ctx.single
            rows = cpu.unpack(signal, ctx.batch, threads=ctx.threads) if blocked else signal
            first = torch.from_numpy(rows)
        return (first, None, *reversed(gradients))


def _tensor(array: Array | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array)


def _layer_backward(
    ctx: Any, link: Link, before: Array, signal: Array, need: tuple[bool, bool, bool]
) -> tuple[Array, Array | None, Array | None]:
    """Return the gradients of a layer's input, values and bias, those that are needed."""
    pattern, values, batch, threads = link.pattern, link.values, ctx.batch, ctx.threads
    need_input, need_values, need_bias = need
    of_values = of_bias = None
    if ctx.plain or ctx.single:
        of_input, of_values, of_bias = linear_backward(
            pattern, values, before, signal,
            need_input=need_input, need_values=need_values, need_bias=need_bias, threads=threads,
        )  # fmt: skip
        if of_values is not None and link.shared is not None:
            of_values = link.shared.of_read(of_values)
        return cast(Array, of_input), of_values, of_bias
    if need_bias:
        of_bias = np.empty(pattern.out_features, np.float32)
    if need_values:
        part, capacity = pattern, values.size
        if link.shared is not None:
            part, capacity = link.shared.pattern, link.shared.room
        of_values = cpu.grad_values(
            part, before, signal, batch, capacity=capacity, bias_out=of_bias, threads=threads
        )
        if link.shared is not None:
            of_values = link.shared.of_part(of_values)
    elif need_bias:
        cpu.grad_bias(signal, batch, out=of_bias, threads=threads)
    if need_input:
        signal = cpu.grad_input(pattern, values, signal, batch, threads=threads)
    return signal, of_values, of_bias


def _activation_backward(ctx: Any, name: str, signal: Array, after: Array) -> Array:
    if ctx.plain:
        return signal * ((after > 0) if name == "relu" else 1 - after**2)
    return cpu.activate_backward(name, signal, after, out=signal, threads=ctx.threads)


def _live_only(layer: CondensedLinear, gradient: Tensor | None) -> Tensor | None:
    if gradient is not None and layer.weight_live is not None:
        gradient[~layer.weight_live] = 0
    return gradient


def _tell_tap(layer: CondensedLinear, before: Array, signal: Array, ctx: Any) -> None:
    if not layer.weight_tap.armed:
        return
    if not ctx.plain:
        before = cpu.unpack(before, ctx.batch, threads=ctx.threads)
        if not ctx.single:
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
        follows = bool(steps) and type(steps[-1]) is CondensedLinear
        joins = type(module) is CondensedLinear or (follows and type(module) in ACTIVATIONS)
        if joins and not watched(module):
            steps.append(module)
            continue
        if steps:
            yield steps
        steps = []
        yield [module]
    if steps:
        yield steps


def neighbours(root: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """List the linear layers that would follow each other in one chain, were they condensed."""
    pairs: list[tuple[nn.Module, nn.Module]] = []
    for sequence in root.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        before: nn.Module | None = None
        for module in sequence:
            if isinstance(module, nn.Linear) and not watched(module):
                if before is not None:
                    pairs.append((before, module))
                before = module
            elif type(module) not in ACTIVATIONS or watched(module):
                before = None
    return pairs


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
