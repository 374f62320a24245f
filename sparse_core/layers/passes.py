"""The forward and the backward pass of a chain of condensed layers, as one function of autograd.

There are two ways through a chain for kernels:

    blocked   in the kernels' own layout throughout: packed once, unpacked once
    rows      a single layer without an activation, packed and unpacked tile by tile

Where no gradient is asked for and the batch is tiny, samples go through one by one instead, which
needs no packing. What is not for kernels goes another way (`sparse_core.layers.torch_path`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._C._functorch import is_legacy_batchedtensor

from sparse_core.checks import InputError
from sparse_core.kernels import checked, linear, plan, unchecked
from sparse_core.kernels.arguments import tile_size
from sparse_core.kernels.buffers import empty
from sparse_core.layers import torch_path
from sparse_core.layers.copies import release
from sparse_core.layers.links import Link, check_weights, layers_of, link_of
from sparse_core.layers.state import Condensed

SMALL_BATCH = 2
"""Samples up to which matrix-vector products beat a tile of a matrix-matrix product."""

Array = NDArray[Any]


class _Needed(NamedTuple):
    """Which gradients of a layer are asked for."""

    input: bool
    values: bool
    bias: bool


class _Gradients(NamedTuple):
    """Gradients of a layer's input, values and bias; what was not asked for means nothing."""

    input: Array
    values: Array | None
    bias: Array | None


def run(steps: Sequence[nn.Module], input: Tensor) -> Tensor:
    """Apply condensed linear layers and activations one after the other.

    Args:
        steps: Condensed linear layers, each with an `nn.ReLU` or `nn.Tanh` behind it or none.
        input: `(..., in)`, float32 or float64 on the CPU; under autocast of any floating type.

    Returns:
        `(..., out)`, of the dtype of the weights.

    Raises:
        ValueError: If the last dimension or the device of the input is wrong, or the weights are
            neither float32 nor float64.
        TypeError: If its dtype is not that of the weights.
    """
    layers = layers_of(steps)
    if torch_path.looked_into():
        return torch_path.run(layers, input)
    input = _checked(layers[0][0], input)
    if not is_for_kernels(input):
        return torch_path.run(layers, input)
    links = [link_of(*layer) for layer in layers]
    flat = input.dim() == 2  # a reshape would cost autograd more than it looks
    rows = input if flat else input.reshape(-1, input.shape[-1])
    parameters = [parameter for link in links for parameter in link.parameters]
    if torch.is_grad_enabled() and (
        rows.requires_grad or any(parameter.requires_grad for parameter in parameters)
    ):
        out = cast(Tensor, _Chain.apply(rows, links, *parameters))  # type: ignore[no-untyped-call]
    else:
        out = torch.from_numpy(_infer(links, rows.detach().contiguous().numpy()))
    return out if flat else out.reshape(*input.shape[:-1], out.shape[-1])


def is_for_kernels(input: Tensor) -> bool:
    """Whether the compiled kernels take an input."""
    return input.dtype != torch.float64 and input.numel() > 0


def _checked(layer: Condensed, input: Tensor) -> Tensor:
    """Return an input that is right, in the dtype of the weights."""
    features, values = layer.dense_shape[1], layer._parameters["values"]
    assert values is not None
    if not input.is_cpu:
        raise InputError(f"condensed layers run on the CPU, got an input on {input.device}")
    if input.dim() == 0 or input.shape[-1] != features:
        raise InputError(f"input must be (..., {features}), got {tuple(input.shape)}")
    if input.dtype == values.dtype:
        return input
    check_weights(values, layer)
    if input.is_floating_point() and torch.is_autocast_enabled("cpu"):
        return input.to(values.dtype)
    raise TypeError(f"input is {input.dtype}, the layer's weights are {values.dtype}")


def _infer(links: Sequence[Link], rows: Array) -> Array:
    threads = torch.get_num_threads()
    if rows.shape[0] <= SMALL_BATCH:
        for link in links:
            out = linear(link.pattern, link.values, rows, link.bias, threads=threads)
            rows = _activated(link.activation, out)
        return rows
    way = _way(links, len(rows), threads, train=False)
    signal = way.enter(rows)
    for link in links:
        _, signal = way.forward(link, signal, keep=False)
    return way.leave(signal)


def _way(links: Sequence[Link], batch: int, threads: int, train: bool) -> _Way:
    link, alone = links[0], len(links) == 1
    if train:
        alone = alone and link.activation is None and link.shared is None
    else:
        alone = alone and link.activation != "tanh"
    return (_Rows if alone else _Blocked)(batch, threads)


class _Way(ABC):
    """A way through a chain; signals are in its own layout, rows are `(batch, features)`."""

    @abstractmethod
    def enter(self, rows: Array) -> Array:
        """Bring rows into the layout of signals."""

    @abstractmethod
    def leave(self, signal: Array) -> Array:
        """Bring a signal back into rows."""

    @abstractmethod
    def forward(self, link: Link, signal: Array, keep: bool) -> tuple[Array, Array]:
        """Return the input as `backward` takes it, if it is to be kept, and the output."""

    @abstractmethod
    def backward(self, link: Link, before: Array, signal: Array, needed: _Needed) -> _Gradients:
        """Return a layer's gradients, given what was kept and the gradient of its output."""

    @abstractmethod
    def activation_backward(self, name: str, signal: Array, after: Array) -> Array:
        """Return the gradient of an activation's input, given its output and that's gradient."""

    @abstractmethod
    def watched(self, before: Array, signal: Array) -> tuple[Array, Array]:
        """Return the arguments of `backward` as rows."""


class _Blocked(_Way):
    """In the layout of `sparse_core.kernels.checked.pack`."""

    def __init__(self, batch: int, threads: int) -> None:
        self.batch = batch
        self.tile = tile_size(batch)
        self.tiles = -(-batch // self.tile)
        self.threads = threads

    def enter(self, rows: Array) -> Array:
        out = empty(self.tiles, rows.shape[1], self.tile)
        unchecked.pack(rows, out, self.threads)
        return out

    def leave(self, signal: Array) -> Array:
        out = empty(self.batch, signal.shape[1])
        unchecked.unpack(signal, out, self.threads)
        return out

    def forward(self, link: Link, signal: Array, keep: bool) -> tuple[Array, Array]:
        pattern, relu = link.pattern, link.activation == "relu"
        out = empty(self.tiles, pattern.out_features, self.tile)
        run = unchecked.forward(pattern, self.tiles, self.tile, self.batch, relu, self.threads)
        run(link.values, signal, link.bias, out, self.batch)
        if link.activation == "tanh":
            unchecked.elementwise("tanh", out, out, out, self.threads)
        return signal, out

    def backward(self, link: Link, before: Array, signal: Array, needed: _Needed) -> _Gradients:
        of_values, of_bias = self.of_parameters(link, before, signal, needed)
        if not needed.input:
            return _Gradients(signal, of_values, of_bias)
        pattern = link.pattern
        out = empty(self.tiles, pattern.in_features, self.tile)
        shape = pattern, self.tiles, self.tile, self.batch, plan.gathers(pattern), self.threads
        unchecked.grad_input(*shape)(link.values, signal, out, self.batch)
        return _Gradients(out, of_values, of_bias)

    def of_parameters(
        self, link: Link, before: Array, signal: Array, needed: _Needed
    ) -> tuple[Array | None, Array | None]:
        """Return the gradients of values and bias."""
        if not needed.values:
            if not needed.bias:
                return None, None
            return None, checked.grad_bias(signal, self.batch, threads=self.threads)
        pattern, shared, capacity = link.pattern, link.shared, link.values.size
        if shared is not None:
            pattern, capacity = shared.pattern, shared.room
        out, bias = empty(capacity), empty(pattern.out_features if needed.bias else 0)
        unchecked.grad_values(pattern, self.tile, self.batch, self.threads)(
            before, signal, out, bias
        )
        return out if shared is None else shared.of_part(out), bias

    def activation_backward(self, name: str, signal: Array, after: Array) -> Array:
        unchecked.elementwise(f"{name}_backward", signal, after, signal, self.threads)
        return signal

    def watched(self, before: Array, signal: Array) -> tuple[Array, Array]:
        return self.leave(before), self.leave(signal)


class _Rows(_Blocked):
    """On rows, but for what is kept of the input; for one layer."""

    def enter(self, rows: Array) -> Array:
        return rows

    def leave(self, signal: Array) -> Array:
        return signal

    def forward(self, link: Link, signal: Array, keep: bool) -> tuple[Array, Array]:
        out = empty(self.batch, link.pattern.out_features)
        shape = link.bias, link.activation == "relu", out, keep, self.threads
        return unchecked.rows_forward(link.pattern, link.values, signal, *shape), out

    def backward(self, link: Link, before: Array, signal: Array, needed: _Needed) -> _Gradients:
        of_input = signal
        if needed.input:
            of_input = empty(self.batch, link.pattern.in_features)
            shape = self.tile, of_input, self.threads
            packed = unchecked.rows_grad_input(link.pattern, link.values, signal, *shape)
        else:
            packed = super().enter(signal)
        return _Gradients(of_input, *self.of_parameters(link, before, packed, needed))

    def watched(self, before: Array, signal: Array) -> tuple[Array, Array]:
        return super().leave(before), signal.copy()


def _activated(name: str | None, out: Array) -> Array:
    if name is None:
        return out
    return np.maximum(out, 0) if name == "relu" else np.tanh(out)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, links: Sequence[Link], *parameters: Tensor) -> Tensor:
        # Autograd then sees what is changed in place. The kernels read a copy of the input, so
        # that is saved only where its own graph may be needed again.
        ctx.save_for_backward(*([rows] if rows.requires_grad else []), *parameters)
        ctx.links, ctx.data, ctx.version = links, rows.detach(), _version(rows)
        array = ctx.data.contiguous().numpy()
        ctx.way = way = _way(links, len(array), torch.get_num_threads(), train=True)
        signal = way.enter(array)
        ctx.kept = kept = []
        for link in links:
            before, signal = way.forward(link, signal, keep=True)
            kept.append((before, signal))
        return torch.from_numpy(way.leave(signal))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        way, links = ctx.way, ctx.links
        needed = list(ctx.needs_input_grad)
        for link in links:
            release(link.layer)
        if torch.is_grad_enabled() or torch_path.looked_into() or is_legacy_batchedtensor(gradient):
            tensors = saved if needed[0] else (ctx.data, *saved)
            if _version(ctx.data) != ctx.version:
                raise RuntimeError(
                    "the input of a condensed layer has been modified by an inplace operation "
                    "since its forward pass, so its gradient has no derivatives"
                )
            layers = [(link.layer, link.activation) for link in links]
            asked = needed[:1] + needed[2:]
            first, *others = torch_path.gradients(layers, tensors, gradient, asked)
            return (first, None, *others)
        signal = way.enter(gradient.contiguous().numpy())
        gradients: list[Tensor | None] = []
        for index in range(len(links) - 1, -1, -1):
            link, (before, after) = links[index], ctx.kept[index]
            if link.activation is not None:
                signal = way.activation_backward(link.activation, signal, after)
            tap = link.layer.weight_tap
            if tap.armed:
                watched = map(torch.from_numpy, way.watched(before, signal))
                tap.receive_product(*watched, link.parameters[0])
            bias = needed.pop() if link.has_bias else False
            wanted = _Needed(index > 0 or needed[0], needed.pop(), bias)
            signal, of_values, of_bias = way.backward(link, before, signal, wanted)
            if link.has_bias:
                gradients.append(_live_only(link, of_bias) if bias else None)
            gradients.append(torch.from_numpy(of_values) if wanted.values else None)
        first = torch.from_numpy(way.leave(signal)) if needed[0] else None
        return (first, None, *reversed(gradients))


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place, if that is counted."""
    return 0 if tensor.is_inference() else tensor._version


def _live_only(link: Link, gradient: Array) -> Tensor:
    of_bias, live = torch.from_numpy(gradient), link.layer._buffers["weight_live"]
    if live is not None:
        of_bias[~live] = 0
    return of_bias
