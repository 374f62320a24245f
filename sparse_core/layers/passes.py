"""The forward and the backward pass of a chain of condensed layers, as one function of autograd.

The device of its weights decides which kernels compute it (`way_of`); each have a layout of their
own for what passes between layers (`sparse_core.layers.ways`, `sparse_core.layers.device_way`).

Where no gradient is asked for and the batch is tiny, samples go through one by one on the CPU,
which needs no packing. What is not for kernels goes another way (`sparse_core.layers.torch_path`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._C._functorch import is_legacy_batchedtensor

from sparse_core.checks import InputError
from sparse_core.kernels import unchecked
from sparse_core.kernels.buffers import empty
from sparse_core.layers import gelu, torch_path
from sparse_core.layers.copies import release
from sparse_core.layers.links import Link, check_weights, layers_of, link_of
from sparse_core.layers.pieces import samples_of_piece
from sparse_core.layers.state import Condensed
from sparse_core.layers.torch_path import Layers
from sparse_core.layers.ways import Blocked, Needed, Rows, Way

SMALL_BATCH = 2
"""Samples up to which matrix-vector products beat a tile of a matrix-matrix product."""

Array = NDArray[Any]


def run(steps: Sequence[nn.Module], input: Tensor) -> Tensor:
    """Apply condensed linear layers and activations one after the other.

    Args:
        steps: Condensed linear layers, each with an activation behind it
            (`sparse_core.layers.links.activation_of`) or none.
        input: `(..., in)` where the weights are, of their dtype; under autocast of any floating
            type.

    Returns:
        `(..., out)`, of the dtype of the weights.

    Raises:
        ValueError: If the last dimension or the device of the input is wrong, or nothing computes
            with the weights where they are.
        TypeError: If its dtype is not that of the weights.
    """
    layers = layers_of(steps)
    if torch_path.looked_into():
        return torch_path.run(layers, input)
    input = _checked(layers[0][0], input)
    if not is_for_kernels(input):
        return torch_path.run(layers, input)
    links = links_of(layers)
    if input.shape[0] == 1 and input.dim() == 2 and not torch.is_grad_enabled() and input.is_cpu:
        array = (input.detach() if input.requires_grad else input).contiguous().numpy()
        return torch.from_numpy(_of_sample(links, array[0], torch.get_num_threads())[None])
    flat = input.dim() == 2  # a reshape would cost autograd more than it looks
    rows = input if flat else input.reshape(-1, input.shape[-1])
    parameters = [parameter for link in links for parameter in link.parameters]
    if torch.is_grad_enabled() and (
        rows.requires_grad or any(parameter.requires_grad for parameter in parameters)
    ):
        out = cast(Tensor, _Chain.apply(rows, links, *parameters))  # type: ignore[no-untyped-call]
    else:
        out = infer(links, rows.detach())
    return out if flat else out.reshape(*input.shape[:-1], out.shape[-1])


def is_for_kernels(input: Tensor) -> bool:
    """Whether the compiled kernels take an input."""
    return input.dtype != torch.float64 and input.numel() > 0


def links_of(layers: Layers) -> Sequence[Any]:
    """Return the layers of a chain in the form in which the kernels of their device take them.

    Raises:
        ValueError: If they are on several devices.
    """
    if not layers[0][0].on_device:
        return [link_of(*layer) for layer in layers]
    from sparse_core.layers.device_way import device_link_of

    device = layers[0][0].values.device
    for layer, _ in layers:
        if layer.values.device != device:
            raise InputError(
                f"{layer}: its weights are on {layer.values.device}, those before on {device}"
            )
    return [device_link_of(*layer) for layer in layers]


def way_of(links: Sequence[Any], batch: int, *, train: bool) -> Way[Any, Any]:
    """Return the way through a chain, by the device of its weights: here kernels are chosen.

    Args:
        links: What `links_of` returned.
        batch: Samples.
        train: Whether gradients will be asked for.
    """
    if not isinstance(links[0], Link):
        from sparse_core.layers.device_way import DeviceWay

        return DeviceWay(batch, list(links))
    link, alone = links[0], len(links) == 1
    if train:
        alone = alone and link.activation is None and link.shared is None
    else:
        alone = alone and link.activation in (None, "relu")
    return (Rows if alone else Blocked)(batch, torch.get_num_threads())


def _checked(layer: Condensed, input: Tensor) -> Tensor:
    """Return an input that is right, in the dtype of the weights."""
    check_place(layer, input)
    features = layer.dense_shape[1]
    if input.dim() == 0 or input.shape[-1] != features:
        raise InputError(f"input must be (..., {features}), got {tuple(input.shape)}")
    return as_weights(layer, input)


def check_place(layer: Condensed, input: Tensor) -> None:
    """Raise an InputError unless an input is where the weights are."""
    values = layer._parameters["values"]
    assert values is not None
    if not values.is_cpu:
        check_weights(values, layer)
    if input.device != values.device:
        raise InputError(
            f"{layer}: its input is on {input.device}, its weights are on {values.device}"
        )


def as_weights(layer: Condensed, input: Tensor) -> Tensor:
    """Return an input in the dtype of the weights.

    Raises:
        TypeError: If it has another one, outside autocast.
    """
    values = layer._parameters["values"]
    assert values is not None
    if input.dtype == values.dtype:
        return input
    check_weights(values, layer)
    if input.is_floating_point() and torch.is_autocast_enabled(input.device.type):
        return input.to(values.dtype)
    raise TypeError(f"input is {input.dtype}, the layer's weights are {values.dtype}")


def infer(links: Sequence[Any], rows: Tensor) -> Tensor:
    """Return the output of a chain for rows `(batch, in)`, without gradients."""
    if rows.is_cpu and rows.shape[0] <= SMALL_BATCH:
        threads, samples = torch.get_num_threads(), rows.contiguous().numpy()
        return torch.from_numpy(np.stack([_of_sample(links, x, threads) for x in samples]))
    way = way_of(links, len(rows), train=False)
    passing = way.enter(rows)
    for link in links:
        _, passing, _ = way.forward(link, passing, keep=False)
    return way.leave(passing)


def _of_sample(links: Sequence[Link], sample: Array, threads: int) -> Array:
    """Return the output for one sample on the CPU, `(out,)`."""
    for link in links:
        out: Array = np.empty(link.pattern.out_features, np.float32)
        run = unchecked.gemv(link.pattern, link.activation == "relu", threads)
        run(link.values, sample, link.bias, out)
        if link.activation == "tanh":
            np.tanh(out, out)
        elif link.activation in gelu.NAMES:
            before, out = out, np.empty_like(out)
            gelu.gelu(link.activation, before, out)
        sample = out
    return sample


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, links: Sequence[Any], *parameters: Tensor) -> Tensor:
        # Autograd then sees what is changed in place. The kernels read a copy of the input, so
        # that is saved only where its own graph may be needed again.
        ctx.save_for_backward(*([rows] if rows.requires_grad else []), *parameters)
        ctx.links, ctx.data, ctx.version = links, rows.detach(), _version(rows)
        ctx.way = way = way_of(links, len(rows), train=True)
        ctx.pieces = pieces = _pieces(links, way)
        if not pieces:
            ctx.kept, signal = forth(links, way, way.enter(ctx.data))
            return way.leave(signal)
        ctx.kept = []
        out = torch.from_numpy(empty(len(rows), links[-1].pattern.out_features))
        for part, of_part in pieces:
            kept, signal = forth(links, of_part, of_part.enter(ctx.data[part]))
            ctx.kept.append(kept)
            of_part.leave(signal, out[part])
        return out

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
        if ctx.pieces:
            return _back_in_pieces(ctx, gradient, needed)
        signal = way.enter(gradient)
        signal, gradients = back(links, ctx.kept, way, signal, needed)
        first = way.leave(signal) if needed[0] else None
        return (first, None, *gradients)


def _pieces(links: Sequence[Any], way: Way[Any, Any]) -> list[tuple[slice, Blocked]]:
    """Return the parts of a batch that go through a chain one by one; none if it is whole."""
    if type(way) is not Blocked:
        return []
    samples = samples_of_piece(links, way)
    if samples == way.batch:
        return []
    ways = {n: Blocked(n, way.threads) for n in (samples, way.batch % samples) if n}
    starts = range(0, way.batch, samples)
    parts = [slice(start, min(start + samples, way.batch)) for start in starts]
    return [(part, ways[part.stop - part.start]) for part in parts]


def _back_in_pieces(ctx: Any, gradient: Tensor, needed: list[bool]) -> tuple[Tensor | None, ...]:
    """Return the gradients of a chain whose forward pass was made in pieces."""
    links, first = ctx.links, None
    total: list[Tensor | None] = []
    if needed[0]:
        first = torch.from_numpy(empty(len(gradient), links[0].pattern.in_features))
    for (part, way), kept in zip(ctx.pieces, ctx.kept, strict=True):
        signal, found = back(links, kept, way, way.enter(gradient[part]), needed.copy())
        if first is not None:
            way.leave(signal, first[part])
        if not total:
            total = found
            continue
        for so_far, more in zip(total, found, strict=True):
            if so_far is not None and more is not None:
                so_far += more
    return (first, None, *total)


def forth(
    links: Sequence[Any], way: Way[Any, Any], signal: Any
) -> tuple[list[tuple[Any, Any]], Any]:
    """Return what the backward pass of a chain needs, as `back` takes it, and its output."""
    kept = []
    for link in links:
        before, signal, seen = way.forward(link, signal, keep=True)
        kept.append((before, seen))
    return kept, signal


def back(
    links: Sequence[Any], kept: Sequence[tuple[Any, Any]], way: Way[Any, Any], signal: Any,
    needed: list[bool],
) -> tuple[Any, list[Tensor | None]]:  # fmt: skip
    """Return the gradients of a chain, which taps that are armed see.

    Args:
        links: The layers.
        kept: For each of them what its forward pass kept: its input, and what the gradient of its
            activation has to see.
        way: The way that they went.
        signal: The gradient of the output, in the way's layout.
        needed: Whether the gradient of the chain's input is asked for, and last of all whether
            those of each layer's parameters are, which are taken off.

    Returns:
        The gradient of the input, in the way's layout, and of the parameters.
    """
    gradients: list[Tensor | None] = []
    for index in range(len(links) - 1, -1, -1):
        link, (before, seen) = links[index], kept[index]
        if link.activation is not None:
            signal = way.activation_backward(link.activation, signal, seen)
        tap = link.layer.weight_tap
        if tap.armed:
            tap.receive_product(*way.watched(before, signal), link.parameters[0])
        bias = needed.pop() if link.has_bias else False
        wanted = Needed(index > 0 or needed[0], needed.pop(), bias)
        signal, of_values, of_bias = way.backward(link, before, signal, wanted)
        if link.has_bias:
            trained = live_only(link, of_bias) if bias and of_bias is not None else None
            gradients.append(trained)
        gradients.append(of_values if wanted.values else None)
    return signal, gradients[::-1]


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place, if that is counted."""
    return 0 if tensor.is_inference() else tensor._version


def live_only(link: Any, of_bias: Tensor) -> Tensor:
    """Return the gradient of a bias, zero where neurons do not train."""
    live = link.layer._buffers["weight_live"]
    if live is not None:
        of_bias.masked_fill_(live.logical_not(), 0)
    return of_bias
