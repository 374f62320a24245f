"""A sequence of modules as a chain of parts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.passing import watched
from sparse_core.layers.residual import Residual
from sparse_core.step.layers import CannotCompile, Learned, Weights
from sparse_core.step.norm import Norm, Scale
from sparse_core.step.parts import Activation, Linear, Part, Sum
from sparse_core.step.shape import Array, Shape
from sparse_core.step.smooth import SMOOTH, Smooth
from sparse_core.step.tape import Tape

CONTAINERS = (nn.Sequential, CondensedSequential, Residual)
"""Modules that are computed as what they hold."""


class Chain:
    """Modules that follow each other, run forward and backward in memory of their own.

    Args:
        modules: An `nn.Sequential` or a single module; see `parts_of` for those it knows.
        shape: Of the batch.
        name: Of the chain, for messages.

    Attributes:
        layers: What its modules learn, in order.
        in_features: Numbers in a sample.
        flattens: Whether samples may have several dimensions, which come in one.
        given: `(tiles, in, tile)`, where the input may be written.
        signal: `(trained, out, tile)`, where the gradient of the output may be written.

    Raises:
        CannotCompile: If it does not know one of them.
    """

    def __init__(self, modules: nn.Module, shape: Shape, name: str) -> None:
        self.shape = shape
        self._name = name
        listed = list(_unrolled(modules, name))
        self.flattens = bool(listed) and _flattens(listed[0][1])
        if self.flattens:
            del listed[0]
        if not listed:
            raise CannotCompile(f"{name} has no layers")
        self._parts, outputs = parts_of(listed, shape)
        everything = list(modules.modules())
        self._containers = [
            (each, list(each._modules.values())) for each in everything if type(each) in CONTAINERS
        ]
        self.layers = [each for part in self._parts for each in part.learned()]
        learn = {id(layer.module) for layer in self.layers}
        self._kinds = [(each, type(each)) for each in everything if id(each) not in learn]
        first = listed[0][1]
        assert isinstance(first, nn.Linear)
        self.in_features = first.in_features
        self.signal = shape.backward(outputs)
        self.given = shape.forward(self.in_features)
        self._tapes: dict[Any, tuple[Tape, Array | None]] = {}

    def holds(self) -> bool:
        """Whether all modules are as they were."""
        return self._holds_modules() and all([layer.holds() for layer in self.layers])

    def holds_tensors(self) -> bool:
        """Whether at most topologies have changed since `bind`."""
        return self._holds_modules() and all(
            [
                layer.holds_tensors() if isinstance(layer, Weights) else layer.holds()
                for layer in self.layers
            ]
        )

    def _holds_modules(self) -> bool:
        for container, children in self._containers:
            if list(container._modules.values()) != children:
                return False
        for module, kind in self._kinds:
            if type(module) is not kind or watched(module):
                return False
        return True

    def renew(self, changed: Collection[Learned]) -> None:
        """Follow layers of which the topology alone has changed, and which have read it."""
        for tape, _ in self._tapes.values():
            tape.renew(changed)

    def bind(self) -> None:
        """Read layers anew that have changed: other topologies, other tensors.

        Raises:
            CannotCompile: If one of them has become something else.
        """
        for container, children in self._containers:
            if list(container._modules.values()) != children:
                raise CannotCompile(f"{self._name} has other modules than before")
        for module, kind in self._kinds:
            if type(module) is not kind:
                raise CannotCompile(f"{self._name} has another {kind.__name__} than before")
            if watched(module):
                raise CannotCompile(f"{self._name} has hooks on a {kind.__name__}")
        for layer in self.layers:
            if not layer.holds():
                layer.bind()
        self._tapes.clear()

    def forward(self, x: Array | None = None) -> Array:
        """Apply the modules to `(tiles, in, tile)`; the result is overwritten by the next call.

        Args:
            x: The input; None: what is in `given`.
        """
        ready = self._tapes.get("forward")
        if ready is None:
            tape = Tape()
            ready = self._tapes["forward"] = tape, self.on_tape(tape, self.given)
        tape, out = ready
        if x is not None:
            np.copyto(self.given, x)
        tape.run()
        assert out is not None
        return out

    def backward(
        self, dy: Array | None = None, *, train: bool = True, first: int | None = None
    ) -> Array | None:
        """Write the gradients of the parameters, and return that of the input.

        Args:
            dy: `(trained, out, tile)`; None: what is in `signal`, which is overwritten.
            train: Whether gradients of the parameters are written.
            first: The first feature of the input whose gradient is wanted; None: of none.

        Returns:
            `(trained, in - first, tile)`, overwritten by the next call, or None.
        """
        ready = self._tapes.get((train, first))
        if ready is None:
            tape = Tape()
            found = self.backward_on_tape(tape, train=train, first=first)
            ready = self._tapes[train, first] = tape, found
        if dy is not None:
            np.copyto(self.signal, dy)
        ready[0].run()
        return ready[1]

    def on_tape(self, tape: Tape, x: Array) -> Array:
        """Let a tape do what `forward` does, from where `x` lies; return where the result will.

        A tape is for the topology and the tensors as they are: after `bind` make another.
        """
        for part in self._parts:
            x = part.forward(tape, x)
        return x

    def backward_on_tape(
        self,
        tape: Tape,
        dy: Array | None = None,
        *,
        train: bool = True,
        first: int | None = None,
    ) -> Array | None:
        """Let a tape do what `backward` does, after the forward pass that was asked for last.

        `dy` is overwritten.
        """
        gradient: Array | None = self.signal if dy is None else dy
        for i in range(len(self._parts) - 1, -1, -1):
            assert gradient is not None
            part, wanted = self._parts[i], 0 if i else first
            gradient = part.backward(tape, gradient, train=train, first=wanted)
        return gradient

    def gradients(self) -> list[tuple[nn.Parameter, NDArray[np.float32]]]:
        """List the parameters, with the arrays that their gradients are written to."""
        return [pair for layer in self.layers for pair in layer.gradients()]


def parts_of(
    modules: Sequence[tuple[str, nn.Module]], shape: Shape, features: int | None = None
) -> tuple[list[Part], int]:
    """Return the parts that do what modules do, one after the other.

    Args:
        modules: Their names, for messages, and they themselves.
        shape: Of the batch.
        features: Of the input of the first one; None: that is a linear layer.

    Returns:
        The parts, and the features of what they give.

    Raises:
        CannotCompile: If it does not know one of them.
    """
    parts: list[Part] = []
    for i, (name, module) in enumerate(modules):
        following = type(modules[i + 1][1]) if i + 1 < len(modules) else None
        kind = type(module)
        if isinstance(module, nn.Linear):
            weights = Weights(module, name)
            features = weights.pattern.out_features
            parts.append(Linear(weights, shape, following is nn.ReLU))
            continue
        if watched(module):
            raise CannotCompile(f"{name} has hooks")
        if features is None:
            raise CannotCompile(f"{name} is a {kind.__name__}, before any linear layer")
        if kind is nn.ReLU and parts and isinstance(parts[-1], Linear):
            continue
        parts.append(_part_of(module, name, shape, features))
    if features is None:
        raise CannotCompile("there are no layers")
    return parts, features


def _flattens(module: nn.Module) -> bool:
    """Whether a module brings samples of any shape into one dimension, and does no more."""
    if type(module) is not nn.Flatten or watched(module):
        return False
    return (module.start_dim, module.end_dim) == (1, -1)


def _part_of(module: nn.Module, name: str, shape: Shape, features: int) -> Part:
    kind = type(module)
    if kind in (nn.ReLU, nn.Tanh):
        return Activation("relu" if kind is nn.ReLU else "tanh", shape, features)
    if kind in SMOOTH:
        return Smooth(module, shape, features)
    if kind is nn.LayerNorm:
        assert isinstance(module, nn.LayerNorm)
        return Norm(Scale(module, name, features), module.eps, shape, features)
    if isinstance(module, Residual) and kind is Residual:
        inner, last = parts_of(list(_unrolled(module.inner, f"{name}.inner")), shape, features)
        if last != features or not inner:
            raise CannotCompile(f"{name} adds {features} and {last} features")
        return Sum(inner, shape, features)
    raise CannotCompile(f"{name} is a {kind.__name__}")


def _unrolled(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that are computed one after the other, with their names."""
    if type(module) is Residual or type(module) not in CONTAINERS:
        if type(module) is not nn.Identity or watched(module):
            yield name, module
        return
    if watched(module):
        raise CannotCompile(f"{name} has hooks")
    assert isinstance(module, nn.Sequential)  # and so without a forward pass of its own
    for key, child in module._modules.items():
        if child is not None:
            yield from _unrolled(child, f"{name}.{key}")
