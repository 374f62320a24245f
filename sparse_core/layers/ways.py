"""Ways through a chain of condensed layers: the layout of what passes between them, and kernels.

    Blocked   on the CPU, in the kernels' own layout throughout: packed once, unpacked once
    Rows      on the CPU, a single layer without an activation, packed and unpacked tile by tile

On a GPU it is `sparse_core.layers.device_way`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.kernels import checked, plan, unchecked
from sparse_core.kernels.arguments import tile_size
from sparse_core.kernels.buffers import empty
from sparse_core.layers import gelu
from sparse_core.layers.links import Link

Array = NDArray[Any]

L = TypeVar("L")
"""The layers of a chain as a way takes them."""

S = TypeVar("S")
"""Signals: what passes between layers."""


class Needed(NamedTuple):
    """Which gradients of a layer are asked for."""

    input: bool
    values: bool
    bias: bool


class Gradients(NamedTuple, Generic[S]):
    """Gradients of a layer's input, values and bias; what was not asked for means nothing."""

    input: S
    values: Tensor | None
    bias: Tensor | None


class Way(ABC, Generic[L, S]):
    """A way through a chain; signals are in its own layout, rows are `(batch, features)`."""

    @abstractmethod
    def enter(self, rows: Tensor) -> S:
        """Bring rows into the layout of signals."""

    @abstractmethod
    def leave(self, signal: S, out: Tensor | None = None) -> Tensor:
        """Bring a signal back into rows, `out` if they are given."""

    @abstractmethod
    def forward(self, link: L, signal: S, keep: bool) -> tuple[S, S, S]:
        """Compute a layer.

        Returns:
            The input as `backward` takes it, if it is to be kept; the output; and what
            `activation_backward` has to see.
        """

    @abstractmethod
    def backward(self, link: L, before: S, signal: S, needed: Needed) -> Gradients[S]:
        """Return a layer's gradients, given what was kept and the gradient of its output."""

    @abstractmethod
    def activation_backward(self, name: str, signal: S, seen: S) -> S:
        """Return the gradient of an activation's input, given that of its output."""

    @abstractmethod
    def watched(self, before: S, signal: S) -> tuple[Tensor, Tensor]:
        """Return the arguments of `backward` as rows."""


class Blocked(Way[Link, Array]):
    """In the layout of `sparse_core.kernels.checked.pack`."""

    def __init__(self, batch: int, threads: int) -> None:
        self.batch = batch
        self.tile = tile_size(batch)
        self.tiles = -(-batch // self.tile)
        self.threads = threads

    def enter(self, rows: Tensor) -> Array:
        """Bring rows into the layout of signals."""
        return self.pack(rows.contiguous().numpy())

    def leave(self, signal: Array, out: Tensor | None = None) -> Tensor:
        """Bring a signal back into rows, `out` if they are given."""
        if out is None:
            return self.unpack(signal)
        unchecked.unpack(signal, out.numpy(), self.threads)
        return out

    def pack(self, rows: Array) -> Array:
        """Bring rows into blocks."""
        out = empty(self.tiles, rows.shape[1], self.tile)
        unchecked.pack(rows, out, self.threads)
        return out

    def unpack(self, signal: Array) -> Tensor:
        """Bring blocks into rows."""
        out = empty(self.batch, signal.shape[1])
        unchecked.unpack(signal, out, self.threads)
        return torch.from_numpy(out)

    def forward(self, link: Link, signal: Array, keep: bool) -> tuple[Array, Array, Array]:
        """Compute a layer."""
        pattern, relu = link.pattern, link.activation == "relu"
        out = empty(self.tiles, pattern.out_features, self.tile)
        run = unchecked.forward(pattern, self.tiles, self.tile, self.batch, relu, self.threads)
        run(link.values, signal, link.bias, out, self.batch)
        seen = out
        if link.activation == "tanh":
            unchecked.elementwise("tanh", out, out, out, self.threads)
        elif link.activation in gelu.NAMES:
            out = empty(*out.shape)
            gelu.gelu(link.activation, seen, out, self.threads)
        return signal, out, seen

    def backward(
        self, link: Link, before: Array, signal: Array, needed: Needed
    ) -> Gradients[Array]:
        """Return a layer's gradients."""
        of_values, of_bias = self.of_parameters(link, before, signal, needed)
        if not needed.input:
            return Gradients(signal, of_values, of_bias)
        pattern = link.pattern
        out = empty(self.tiles, pattern.in_features, self.tile)
        shape = pattern, self.tiles, self.tile, self.batch, plan.gathers(pattern), self.threads
        unchecked.grad_input(*shape)(link.values, signal, out, self.batch)
        return Gradients(out, of_values, of_bias)

    def of_parameters(
        self, link: Link, before: Array, signal: Array, needed: Needed
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of values and bias."""
        if not needed.values:
            if not needed.bias:
                return None, None
            sums = checked.grad_bias(signal, self.batch, threads=self.threads)
            return None, torch.from_numpy(sums)
        pattern, shared, capacity = link.pattern, link.shared, link.values.size
        if shared is not None:
            pattern, capacity = shared.pattern, shared.room
        out, bias = empty(capacity), empty(pattern.out_features if needed.bias else 0)
        unchecked.grad_values(pattern, self.tile, self.batch, self.threads)(
            before, signal, out, bias
        )
        whole = out if shared is None else shared.of_part(out)
        return torch.from_numpy(whole), torch.from_numpy(bias)

    def activation_backward(self, name: str, signal: Array, seen: Array) -> Array:
        """Return the gradient of an activation's input; `signal` is overwritten."""
        if name in gelu.NAMES:
            return np.multiply(signal, seen, out=signal)
        unchecked.elementwise(f"{name}_backward", signal, seen, signal, self.threads)
        return signal

    def watched(self, before: Array, signal: Array) -> tuple[Tensor, Tensor]:
        """Return the arguments of `backward` as rows."""
        return self.unpack(before), self.unpack(signal)


class Rows(Blocked):
    """On rows, but for what is kept of the input; for one layer."""

    def enter(self, rows: Tensor) -> Array:
        """Bring rows into the layout of signals."""
        array: Array = rows.contiguous().numpy()
        return array

    def leave(self, signal: Array, out: Tensor | None = None) -> Tensor:
        """Bring a signal back into rows, `out` if they are given."""
        rows = torch.from_numpy(signal)
        return rows if out is None else out.copy_(rows)

    def forward(self, link: Link, signal: Array, keep: bool) -> tuple[Array, Array, Array]:
        """Compute a layer."""
        out = empty(self.batch, link.pattern.out_features)
        shape = link.bias, link.activation == "relu", out, keep, self.threads
        return unchecked.rows_forward(link.pattern, link.values, signal, *shape), out, out

    def backward(
        self, link: Link, before: Array, signal: Array, needed: Needed
    ) -> Gradients[Array]:
        """Return a layer's gradients."""
        of_input = signal
        if needed.input:
            of_input = empty(self.batch, link.pattern.in_features)
            shape = self.tile, of_input, self.threads
            packed = unchecked.rows_grad_input(link.pattern, link.values, signal, *shape)
        else:
            packed = self.pack(signal)
        return Gradients(of_input, *self.of_parameters(link, before, packed, needed))

    def watched(self, before: Array, signal: Array) -> tuple[Tensor, Tensor]:
        """Return the arguments of `backward` as rows."""
        return self.unpack(before), torch.from_numpy(signal.copy())
