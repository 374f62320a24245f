"""Consecutive condensed layers with activations between them, packed once and unpacked once.

What an autograd function over several layers calls. Between layers the activations stay in the
blocked layout; max(., 0) is applied by the product itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import cpu, reference
from sparse_core.kernels.checks import empty
from sparse_core.kernels.format import Pattern

Array = NDArray[Any]

ACTIVATIONS = (None, "relu", "tanh")
"""What may follow a layer of a chain."""


@dataclass(frozen=True)
class Link:
    """A layer of a chain and the activation that follows it.

    Attributes:
        pattern: The active weights.
        values: (capacity,) float32 or float64, `pattern.size` or more.
        bias: (out,) of the same dtype, or None.
        activation: One of `ACTIVATIONS`.
    """

    pattern: Pattern
    values: Array
    bias: Array | None = None
    activation: str | None = None

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {ACTIVATIONS}, got {self.activation!r}")


def chain_forward(
    links: Sequence[Link], x: Array, *, threads: int = 1
) -> tuple[Array, list[Array]]:
    """Compute the output of a chain, and what `chain_backward` needs.

    Args:
        links: The layers, one or more.
        x: (batch, in) float32 or float64, as the values.
        threads: Threads to use.

    Returns:
        y (batch, out), and the inputs of all layers and the output in the layout of the backward
        pass.

    Raises:
        ValueError: If a shape is wrong.
        TypeError: If dtypes differ or are neither float32 nor float64.
    """
    _check(links, x)
    if _plain(x):
        steps = [x]
        for link in links:
            h = reference.forward(link.pattern, link.values, steps[-1], link.bias)
            if link.activation is not None:
                h = reference.relu(h) if link.activation == "relu" else reference.tanh(h)
            steps.append(h)
        return steps[-1], steps
    batch = x.shape[0]
    steps = [cpu.pack(x, threads=threads)]
    for link in links:
        relu = link.activation == "relu"
        h = cpu.forward(
            link.pattern, link.values, steps[-1], batch, link.bias, relu=relu, threads=threads
        )
        if link.activation == "tanh":
            cpu.activate("tanh", h, out=h, threads=threads)
        steps.append(h)
    return cpu.unpack(steps[-1], batch, threads=threads), steps


def chain_backward(
    links: Sequence[Link],
    saved: Sequence[Array],
    dy: Array,
    *,
    need_input: bool = True,
    need_values: bool = True,
    threads: int = 1,
) -> tuple[Array | None, list[tuple[Array, Array | None]]]:
    """Compute the gradients of a chain.

    Args:
        links: The layers, as in the forward pass.
        saved: What `chain_forward` returned beside its output.
        dy: (batch, out) gradient of the output.
        need_input: Whether to compute the gradient of x.
        need_values: Whether to compute the gradients of values and biases.
        threads: Threads to use.

    Returns:
        Gradient of x (batch, in), or None, and for each layer the gradients of its values
        (capacity,) and of its bias (out,), None if it has none; an empty list if not needed.

    Raises:
        ValueError: If a shape is wrong.
        TypeError: If dtypes differ or are neither float32 nor float64.
    """
    outputs = links[-1].pattern.out_features
    if dy.ndim != 2 or dy.shape[1] != outputs:
        raise ValueError(f"dy must be (batch, {outputs}), got {dy.shape}")
    if dy.dtype != saved[0].dtype:
        raise TypeError(f"dtypes must agree, got {saved[0].dtype} and {dy.dtype}")
    if _plain(dy):
        return _plain_backward(links, saved, dy, need_input, need_values)
    batch = dy.shape[0]
    d = cpu.pack(dy, tile=saved[0].shape[2], threads=threads)
    last = links[-1].activation
    if last is not None:
        cpu.activate_backward(last, d, saved[-1], out=d, threads=threads)
    gradients: list[tuple[Array, Array | None]] = []
    for i in range(len(links) - 1, -1, -1):
        pattern, values = links[i].pattern, links[i].values
        if need_values:
            dbias = None if links[i].bias is None else empty(pattern.out_features)
            dvalues = cpu.grad_values(
                pattern, saved[i], d, batch,
                capacity=values.size, bias_out=dbias, threads=threads,
            )  # fmt: skip
            gradients.append((dvalues, dbias))
        if i:
            before = links[i - 1].activation
            d = cpu.grad_input(
                pattern, values, d, batch,
                activation=before, y=saved[i] if before else None, threads=threads,
            )  # fmt: skip
        elif need_input:
            d = cpu.grad_input(pattern, values, d, batch, threads=threads)
    dx = cpu.unpack(d, batch, threads=threads) if need_input else None
    return dx, gradients[::-1]


def _plain_backward(
    links: Sequence[Link],
    saved: Sequence[Array],
    dy: Array,
    need_input: bool,
    need_values: bool,
) -> tuple[Array | None, list[tuple[Array, Array | None]]]:
    gradients: list[tuple[Array, Array | None]] = []
    for i in range(len(links) - 1, -1, -1):
        link = links[i]
        if link.activation == "relu":
            dy = reference.relu_backward(dy, saved[i + 1])
        elif link.activation == "tanh":
            dy = reference.tanh_backward(dy, saved[i + 1])
        if need_values:
            dvalues = reference.grad_values(link.pattern, saved[i], dy, link.values.size)
            dbias = reference.grad_bias(dy) if link.bias is not None else None
            gradients.append((dvalues, dbias))
        dy = reference.grad_input(link.pattern, link.values, dy)
    return dy if need_input else None, gradients[::-1]


def _plain(array: Array) -> bool:
    """Whether an array takes the plain path: float64, or nothing at all."""
    return array.dtype == np.float64 or array.shape[0] == 0


def _check(links: Sequence[Link], x: Array) -> None:
    if not links:
        raise ValueError("a chain must have at least one layer, got none")
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}")
    width = x.shape[1] if x.ndim == 2 else None
    for i, link in enumerate(links):
        pattern = link.pattern
        if pattern.in_features != width:
            raise ValueError(f"layer {i} has {pattern.in_features} inputs, but gets {width}")
        if link.values.ndim != 1 or link.values.size < pattern.size:
            raise ValueError(f"values of layer {i} must be flat, {pattern.size} or more")
        if link.bias is not None and link.bias.shape != (pattern.out_features,):
            raise ValueError(f"bias of layer {i} must be ({pattern.out_features},)")
        if any(a is not None and a.dtype != x.dtype for a in (link.values, link.bias)):
            raise TypeError(f"values and bias of layer {i} must be {x.dtype} as x")
        width = pattern.out_features
