"""A sequence of modules as a chain of parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sparse_core.layers.chain import CondensedSequential, watched
from sparse_core.step.layers import CannotCompile, Weights
from sparse_core.step.parts import Activation, Linear, Part
from sparse_core.step.shape import Array, Shape


class Chain:
    """Modules that follow each other, run forward and backward in memory of their own.

    Args:
        modules: An `nn.Sequential` or a single module; see `parts_of` for those it knows.
        shape: Of the batch.
        name: Of the chain, for messages.

    Attributes:
        layers: Its layers, in order.
        signal: `(trained, out, tile)`, where the gradient of the output may be written.

    Raises:
        CannotCompile: If it does not know one of them.
    """

    def __init__(self, modules: nn.Module, shape: Shape, name: str) -> None:
        self.shape = shape
        self._modules, self._name = modules, name
        self._listed = list(_unrolled(modules, name))
        self._parts = parts_of(self._listed, shape)
        if not self._parts:
            raise CannotCompile(f"{name} has no layers")
        self._children = list(modules._modules.values())
        self.layers = [layer for part in self._parts for layer in part.weights()]
        self.signal = shape.backward(self.layers[-1].pattern.out_features)

    def holds(self) -> bool:
        """Whether all modules are as they were."""
        modules = self._modules
        children = list(modules._modules.values())
        if children != self._children or watched(modules):
            return False
        return all([layer.holds() for layer in self.layers])

    def bind(self) -> None:
        """Read layers anew that have changed: other topologies, other tensors.

        Raises:
            CannotCompile: If one of them has become something else.
        """
        if list(_unrolled(self._modules, self._name)) != self._listed:
            raise CannotCompile(f"{self._name} has other modules than before")
        for layer in self.layers:
            if not layer.holds():
                layer.bind()
        for part in self._parts:
            part.bind()

    def forward(self, x: Array) -> Array:
        """Apply the modules to `(tiles, in, tile)`; the result is overwritten by the next call."""
        for part in self._parts:
            x = part.forward(x)
        return x

    def backward(
        self, dy: Array | None = None, *, train: bool = True, first: int | None = None
    ) -> Array | None:
        """Write the gradients of the parameters, and return that of the input.

        Args:
            dy: `(trained, out, tile)`, which is overwritten; None: what is in `signal`.
            train: Whether gradients of the parameters are written.
            first: The first feature of the input whose gradient is wanted; None: of none.

        Returns:
            `(trained, in - first, tile)`, overwritten by the next call, or None.
        """
        gradient: Array | None = self.signal if dy is None else dy
        for i in range(len(self._parts) - 1, -1, -1):
            assert gradient is not None
            gradient = self._parts[i].backward(gradient, train=train, first=0 if i else first)
        return gradient

    def gradients(self) -> list[tuple[nn.Parameter, NDArray[np.float32]]]:
        """List the parameters, with the arrays that their gradients are written to."""
        return [pair for layer in self.layers for pair in layer.gradients()]


def parts_of(modules: Sequence[tuple[str, nn.Module]], shape: Shape) -> list[Part]:
    """Return the parts that do what modules do, one after the other.

    Raises:
        CannotCompile: If it does not know one of them.
    """
    parts: list[Part] = []
    features = 0
    for i, (name, module) in enumerate(modules):
        following = type(modules[i + 1][1]) if i + 1 < len(modules) else None
        kind = type(module)
        if isinstance(module, nn.Linear):
            weights = Weights(module, name)
            features = weights.pattern.out_features
            parts.append(Linear(weights, shape, following is nn.ReLU))
        elif watched(module):
            raise CannotCompile(f"{name} has hooks")
        elif kind is nn.ReLU and parts and isinstance(parts[-1], Linear):
            continue
        elif kind in (nn.ReLU, nn.Tanh) and parts:
            parts.append(Activation("relu" if kind is nn.ReLU else "tanh", shape, features))
        else:
            raise CannotCompile(f"{name} is a {kind.__name__}")
    return parts


def _unrolled(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that are computed one after the other, with their names."""
    if type(module) not in (nn.Sequential, CondensedSequential):
        if type(module) is not nn.Identity or watched(module):
            yield name, module
        return
    if watched(module):
        raise CannotCompile(f"{name} has hooks")
    assert isinstance(module, nn.Sequential)  # and so without a forward pass of its own
    for key, child in module._modules.items():
        if child is not None:
            yield from _unrolled(child, f"{name}.{key}")
