"""The parts of a chain: each maps a signal forward and a gradient backward, in memory it keeps.

A part keeps what its backward pass needs of the forward pass before, so that it is used by one
batch at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import plan, unchecked
from sparse_core.kernels.elementwise import elementwise_kernel
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.threads import team
from sparse_core.step.layers import Learned, Weights
from sparse_core.step.shape import Array, Shape, zeros


class Part(ABC):
    """A part of a chain.

    Attributes:
        overwrites: Whether it writes to the gradient that it is given.
    """

    overwrites = False

    @abstractmethod
    def forward(self, x: Array) -> Array:
        """Map `(tiles, in, tile)` to `(tiles, out, tile)`."""

    @abstractmethod
    def backward(self, dy: Array, *, train: bool, first: int | None) -> Array | None:
        """Return the gradient of the input, `(trained, in - first, tile)`.

        Args:
            dy: `(trained, out, tile)`, the gradient of the output.
            train: Whether gradients of parameters are written too.
            first: The first feature of the input whose gradient is wanted; None: of none.
        """

    def learned(self) -> list[Learned]:
        """List what modules in it learn."""
        return []

    def bind(self) -> None:  # noqa: B027 - most depend on none
        """Find anew what depends on the topology."""


class Elementwise:
    """A function of `sparse_core.kernels.elementwise.NAMES`, ready for arrays of one size.

    Args:
        name: Which.
        out: An array of the size.
        threads: Threads that it may use.
    """

    def __init__(self, name: str, out: Array, threads: int) -> None:
        self._threads = plan.useful_threads(threads, 4 * out.size)
        self._run = elementwise_kernel(name, self._threads > 1)

    def __call__(self, first: Array, second: Array, out: Array) -> None:
        """Apply it; `out` may be an input."""
        with team(self._threads):
            self._run(first.reshape(-1), second.reshape(-1), out.reshape(-1), self._threads)


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
        self._of_relu = Elementwise("relu_backward", self._trained, shape.threads)
        self.signal: Array | None = None
        self.bind()

    def learned(self) -> list[Learned]:
        """The layer's weights."""
        return [self._weights]

    def bind(self) -> None:
        """Make the kernels ready for the topology as it is."""
        shape, pattern = self.shape, self._weights.pattern
        samples = shape.tiles * shape.tile, shape.trained * shape.tile
        self._samples = samples
        self._forward = unchecked.forward(
            pattern, shape.tiles, shape.tile, samples[0], self.relu, shape.threads
        )
        self._of_values = unchecked.grad_values(pattern, shape.tile, samples[1], shape.threads)
        self._columns: Columns | None = None

    def forward(self, x: Array) -> Array:
        """Map `(tiles, in, tile)` to `(tiles, out, tile)`."""
        weights = self._weights
        self._x = x
        self._forward(weights.values, x, weights.bias, self.out, self._samples[0])
        return self.out

    def backward(self, dy: Array, *, train: bool, first: int | None) -> Array | None:
        """Write gradients of weights and bias if `train`; return that of the input if wanted."""
        shape, weights = self.shape, self._weights
        if self.relu:
            self._of_relu(dy, self._trained, dy)
        if train:
            x = self._x[: shape.trained]
            self._of_values(x, dy, weights.of_values, weights.of_bias)
            weights.confine()
        if first is None:
            return None
        if self._columns is None or self._columns.first != first:
            self._columns = Columns(weights.pattern, first, shape)
        if self.signal is None or self.signal.shape[1] != weights.pattern.in_features - first:
            self.signal = shape.backward(weights.pattern.in_features - first)
        self._columns.gradient(weights.values, dy, self.signal)
        return self.signal


class Columns:
    """W^T dy for the columns of a pattern from one on.

    Args:
        pattern: The weights.
        first: The first column that counts.
        shape: Of the batch.
    """

    def __init__(self, pattern: Pattern, first: int, shape: Shape) -> None:
        self.first = first
        self._places: NDArray[np.int64] | None = None
        if first:
            pattern, self._places = _from_column(pattern, first)
            self._values = zeros(pattern.size)
        self._samples = shape.trained * shape.tile
        gather = plan.gathers(pattern)
        self._run = unchecked.grad_input(
            pattern, shape.trained, shape.tile, self._samples, gather, shape.threads
        )

    def gradient(self, values: Array, dy: Array, out: Array) -> None:
        """Write it to `out`."""
        if self._places is not None:
            values = values.take(self._places, out=self._values, mode="clip")
        self._run(values, dy, out, self._samples)


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
        self.out = shape.forward(features)
        self._trained = self.out[: shape.trained]
        self._run = Elementwise(name, self.out, shape.threads)
        self._run_back = Elementwise(f"{name}_backward", self._trained, shape.threads)

    def forward(self, x: Array) -> Array:
        """Map `(tiles, features, tile)` to the same."""
        self._run(x, x, self.out)
        return self.out

    def backward(self, dy: Array, *, train: bool, first: int | None) -> Array | None:
        """Return the gradient of the input, in the place of `dy`."""
        self._run_back(dy, self._trained, dy)
        return dy if not first else dy[:, first:]


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

    def learned(self) -> list[Learned]:
        """What f learns."""
        return [each for part in self._parts for each in part.learned()]

    def bind(self) -> None:
        """Find anew what depends on the topology."""
        for part in self._parts:
            part.bind()

    def forward(self, x: Array) -> Array:
        """Map `(tiles, features, tile)` to the same."""
        y = x
        for part in self._parts:
            y = part.forward(y)
        return np.add(x, y, out=self.out)

    def backward(self, dy: Array, *, train: bool, first: int | None) -> Array | None:
        """Return the gradient of the input, and write those of parameters if `train`."""
        inner = dy
        if self._parts[-1].overwrites:
            np.copyto(self.signal, dy)
            inner = self.signal
        for i in range(len(self._parts) - 1, -1, -1):
            wanted = 0 if i or first is not None else None
            found = self._parts[i].backward(inner, train=train, first=wanted)
            if found is None:
                return None
            inner = found
        total = np.add(dy, inner, out=self.signal)
        return total if not first else total[:, first:]
