"""The parts of a chain: each maps a signal forward and a gradient backward, in memory it keeps.

A part does so on a tape: it adds the calls of kernels that do it. It keeps what its backward pass
needs of the forward pass that it was asked for last, so that it is used by one batch at a time.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import plan, unchecked
from sparse_core.kernels.elementwise import elementwise_kernel
from sparse_core.kernels.format import Pattern
from sparse_core.step import products
from sparse_core.step.arrays import add_kernel, copy_kernel
from sparse_core.step.layers import Learned, Weights
from sparse_core.step.shape import Array, Shape
from sparse_core.step.tape import Tape


class Part(ABC):
    """A part of a chain.

    Attributes:
        overwrites: Whether it writes to the gradient that it is given.
    """

    overwrites = False

    @abstractmethod
    def forward(self, tape: Tape, x: Array) -> Array:
        """Map `(tiles, in, tile)` to `(tiles, out, tile)`; return where the result will lie."""

    @abstractmethod
    def backward(self, tape: Tape, dy: Array, *, train: bool, first: int | None) -> Array | None:
        """Compute the gradient of the input, `(trained, in - first, tile)`.

        Args:
            tape: What does it.
            dy: `(trained, out, tile)`, the gradient of the output.
            train: Whether gradients of parameters are written too.
            first: The first feature of the input whose gradient is wanted, which is zero but for
                linear layers; None: of none.

        Returns:
            Where it will lie.
        """

    def learned(self) -> list[Learned]:
        """List what modules in it learn."""
        return []


def elementwise(
    tape: Tape, name: str, first: Array, second: Array, out: Array, threads: int
) -> None:
    """Apply a function of `sparse_core.kernels.elementwise.NAMES`; `out` may be an input."""
    if plan.useful_threads(threads, 4 * out.size) > 1:
        tape.do(lambda: unchecked.elementwise(name, first, second, out, threads))
        return
    flat = first.reshape(-1), second.reshape(-1), out.reshape(-1)
    tape.call(elementwise_kernel(name, False), *flat, 1)


class Linear(Part):
    """A linear layer, and the ReLU after it if there is one.

    Args:
        weights: The layer.
        shape: Of the batch.
        relu: Whether a ReLU follows.
    """

    def __init__(self, weights: Weights, shape: Shape, relu: bool) -> None:
        self._weights, self.shape, self.relu = weights, shape, relu
        self.overwrites = relu
        self.out = shape.forward(weights.pattern.out_features)
        self._trained = self.out[: shape.trained]
        self.signal: Array | None = None

    def learned(self) -> list[Learned]:
        """The layer's weights."""
        return [self._weights]

    def forward(self, tape: Tape, x: Array) -> Array:
        """Map `(tiles, in, tile)` to `(tiles, out, tile)`."""
        weights, threads = self._weights, self.shape.threads
        self._x = x

        def lay(tape: Tape) -> None:
            read = weights.read
            read.fill(tape)
            products.forward(
                tape, read.pattern, read.values, x, read.bias, self.out, self.relu, threads
            )

        tape.lay([weights], lay)
        return self.out

    def backward(self, tape: Tape, dy: Array, *, train: bool, first: int | None) -> Array | None:
        """Write gradients of weights and bias if `train`; return that of the input if wanted."""
        shape, weights = self.shape, self._weights
        if self.relu:
            elementwise(tape, "relu_backward", dy, self._trained, dy, shape.threads)
        if train:
            weights.signals = self._x[: shape.trained], dy
            tape.lay([weights], functools.partial(self._gradients, *weights.signals))
        if first is None:
            return None
        features = weights.pattern.in_features - first
        if self.signal is None or self.signal.shape[1] != features:
            self.signal = shape.backward(features)
        tape.lay([weights], functools.partial(self._of_input, dy, self.signal, first))
        return self.signal

    def _gradients(self, x: Array, dy: Array, tape: Tape) -> None:
        weights, read = self._weights, self._weights.read
        found = read.room(weights.of_values), weights.of_bias
        products.grad_values(tape, read.trained, x, dy, *found, self.shape.threads)
        read.spread(tape, weights.of_values)
        weights.confine(tape)

    def _of_input(self, dy: Array, out: Array, first: int, tape: Tape) -> None:
        pattern, values = self._weights.read.pattern, self._weights.read.values
        if first:
            whole = pattern
            pattern, places = plan.keep(
                whole, ("from column", first), lambda: _from_column(whole, first)
            )
            values = products.take(tape, values, places)
        products.grad_input(tape, pattern, values, dy, out, self.shape.threads)


def _from_column(pattern: Pattern, first: int) -> tuple[Pattern, NDArray[np.int64]]:
    """Return the part of a pattern from a column on, and the places of its values."""
    chosen = np.flatnonzero(pattern.columns >= first)
    counts = (
        np.add.reduceat(
            np.append(pattern.columns >= first, False).astype(np.int32), pattern.indptr[:-1]
        )
        if pattern.groups
        else np.zeros(0, np.int32)
    )
    lengths = np.zeros(-(-pattern.out_features // pattern.group), np.int32)
    lengths[pattern.rows] = counts
    part = Pattern.from_lengths(
        pattern.columns[chosen].astype(np.int64) - first,
        lengths,
        pattern.in_features - first,
        pattern.out_features,
        pattern.group,
    )
    places = chosen[:, None] * pattern.group + np.arange(pattern.group)
    return part, places.ravel()


class Activation(Part):
    """A function of single numbers whose derivative follows from its value: tanh, ReLU.

    Args:
        name: One of `sparse_core.kernels.elementwise.NAMES`, with a `_backward` beside it.
        shape: Of the batch.
        features: How many there are.
    """

    overwrites = True

    def __init__(self, name: str, shape: Shape, features: int) -> None:
        self._name, self._threads = name, shape.threads
        self.out = shape.forward(features)
        self._trained = self.out[: shape.trained]

    def forward(self, tape: Tape, x: Array) -> Array:
        """Map `(tiles, features, tile)` to the same."""
        elementwise(tape, self._name, x, x, self.out, self._threads)
        return self.out

    def backward(self, tape: Tape, dy: Array, *, train: bool, first: int | None) -> Array | None:
        """Compute the gradient of the input, in the place of `dy`."""
        elementwise(tape, f"{self._name}_backward", dy, self._trained, dy, self._threads)
        return dy


class Sum(Part):
    """x + f(x), where f is a chain of parts.

    Args:
        parts: Those of f, in order.
        shape: Of the batch.
        features: Of x and of f(x).
    """

    def __init__(self, parts: list[Part], shape: Shape, features: int) -> None:
        self._parts = parts
        self.out = shape.forward(features)
        self.signal = shape.backward(features)
        self._given = shape.backward(features) if parts[-1].overwrites else None

    def learned(self) -> list[Learned]:
        """What f learns."""
        return [each for part in self._parts for each in part.learned()]

    def forward(self, tape: Tape, x: Array) -> Array:
        """Map `(tiles, features, tile)` to the same."""
        y = x
        for part in self._parts:
            y = part.forward(tape, y)
        add(tape, x, y, self.out)
        return self.out

    def backward(self, tape: Tape, dy: Array, *, train: bool, first: int | None) -> Array | None:
        """Compute the gradient of the input, and those of parameters if `train`."""
        inner = dy
        if self._given is not None:
            copy(tape, dy, self._given)
            inner = self._given
        for i in range(len(self._parts) - 1, -1, -1):
            wanted = 0 if i or first is not None else None
            found = self._parts[i].backward(tape, inner, train=train, first=wanted)
            if found is None:
                return None
            inner = found
        add(tape, dy, inner, self.signal)
        return self.signal


def add(tape: Tape, first: Array, second: Array, out: Array) -> None:
    """Write a sum to `out`, which may be an input."""
    tape.call(add_kernel(), first.reshape(-1), second.reshape(-1), out.reshape(-1))


def copy(tape: Tape, source: Array, target: Array, first: int = 0, at: int = 0) -> None:
    """Copy the features of tiles, from `first` on, to those from `at` on."""
    tape.call(copy_kernel(), source, target, first, at)
