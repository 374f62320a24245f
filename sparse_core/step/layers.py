"""A linear layer as the kernels take it: condensed, masked or dense.

A masked or dense layer is a pattern of all weights, whose values lie as torch has them; the
gradients of masked weights are zeroed afterwards. That is for small ones: what is neither sparse
nor small is better left to a dense product.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_core.kernels import plan
from sparse_core.kernels.format import Pattern
from sparse_core.layers.companions import key
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.linear import MaskedLinear
from sparse_core.layers.passing import watched
from sparse_core.step.arrays import clear_kernel, mask_kernel
from sparse_core.step.reading import Reading
from sparse_core.step.shape import Array, zeros
from sparse_core.step.tape import Tape

LARGEST_DENSE = 1 << 15
"""Weights up to which a dense or masked layer is run by the kernels of sparse ones."""

_OTHER_TASKS = ("protected", "frozen", "lent", "reserved", "given")
_NOT_ZERO = ("backward", "scores")


class CannotCompile(Exception):
    """A part of a training step that only autograd can do; the text says which, and why."""


class Learned(ABC):
    """What a module learns: its parameters, and room for their gradients.

    Attributes:
        module: The module.
        bias: Its bias.
        dead: Entries of the bias that do not train; None: all do.
    """

    module: nn.Module
    bias: Array
    dead: NDArray[np.int64] | None = None

    @abstractmethod
    def bind(self) -> None:
        """Read the module anew, after its topology or its tensors have changed.

        Raises:
            CannotCompile: If it has become something else.
        """

    @abstractmethod
    def holds(self) -> bool:
        """Whether the module is still as it was when `bind` read it."""

    @abstractmethod
    def gradients(self) -> list[tuple[nn.Parameter, Array]]:
        """List the parameters with the room for their gradients."""


class Weights(Learned):
    """The weights of one layer, their places, and room for their gradients.

    Args:
        module: An `nn.Linear`, sparse or dense.
        name: Its name, for messages.

    Attributes:
        pattern: The weights that exist, in the layout of `values`.
        values: (at least `pattern.size`,) float32, the memory of the module's parameter.
        bias: (out,) float32; zeros if the module has none.
        read: What its products read, which is more where tasks share weights.
        of_values: Room for the gradient of `values`.
        of_bias: Room for the gradient of the bias; empty if there is none.
        signals: `(trained, in, tile)` and `(trained, out, tile)`, where the last backward pass that
            was laid on a tape leaves the layer's input and the gradient of its output.

    Raises:
        CannotCompile: If the layer is of another kind, or does more than a product.
    """

    signals: tuple[Array, Array] | None = None

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name
        self._kind = kind = type(module)
        self._check()
        self.condensed = isinstance(module, CondensedLinear)
        weight, bias = self._parameters()
        assert weight is not None
        if not self.condensed and weight.numel() > LARGEST_DENSE:
            form = "dense" if kind is nn.Linear else "masked"
            raise CannotCompile(
                f"{name} is {form} and has {weight.numel()} weights, more than {LARGEST_DENSE}"
            )
        self.of_values = zeros(weight.numel())
        self.of_bias = zeros(0 if bias is None else bias.numel())
        self.bind()

    def bind(self) -> None:
        """Read the module anew, after its topology or its tensors have changed."""
        self._check()
        module, (weight, bias) = self.module, self._parameters()
        assert isinstance(module, nn.Linear) and weight is not None
        self.parameters = tuple(p for p in (weight, bias) if p is not None)
        self._addresses = tuple(p.data_ptr() for p in self.parameters)
        self.values: Array = weight.detach().numpy().reshape(-1)
        if self.of_values.size != self.values.size:
            self.of_values = zeros(self.values.size)
        self.read_topology()

    def read_topology(self) -> None:
        """Read which weights exist and which biases train, after nothing else has changed."""
        module, bias = self.module, self._parameters()[1]
        assert isinstance(module, nn.Linear)
        if isinstance(module, CondensedLinear):
            self.pattern = module.pattern
        else:
            self.pattern = _full(module.in_features, module.out_features)
        self.bias: Array = plan.zeros(self.pattern) if bias is None else bias.detach().numpy()
        self.of_values[:] = 0  # and so stay those of weights that do not train
        shared, self._given = None, None
        if isinstance(module, CondensedLinear):
            shared, self._given = module.shared, module.weight_given
        self._shared, self._given_version = shared, _version(self._given)
        given, reserved = self._given, module._buffers.get(key("weight", "reserved"))
        self.read = Reading(self.pattern, self.values, self.bias, shared, given, reserved)
        self._mask = module._buffers.get(key("weight", "mask"))
        self._version = self._masks_version()
        self.mask: Array | None = None
        if self._mask is not None:
            self.mask = (self._mask.numpy().reshape(-1) != 0).astype(np.float32)
        live = module._buffers.get(key("weight", "live"))
        dead = None if live is None or bias is None else live.numpy() == 0
        self.dead = None
        if dead is not None and dead.any():
            self.dead = np.flatnonzero(dead)

    def holds(self) -> bool:
        """Whether the module is still as it was when `bind` read it."""
        module = self.module
        if not self.holds_tensors():
            return False
        if self.condensed:
            state, given = vars(module), module._buffers["weight_given"]
            return (
                state["_pattern"] is self.pattern
                and state["_shared"] is self._shared
                and given is self._given
                and _version(given) == self._given_version
            )
        return self._mask is None or (
            module._buffers[key("weight", "mask")] is self._mask
            and self._masks_version() == self._version
        )

    def holds_tensors(self) -> bool:
        """Whether at most its topology has changed since `bind` read the module."""
        module = self.module
        if type(module) is not self._kind or watched(module):
            return False
        held = module._parameters
        now = held["values" if self.condensed else "weight"], held["bias"]
        for parameter, known, address in zip(now, self.parameters, self._addresses, strict=False):
            if parameter is not known or known.data_ptr() != address:
                return False
        return True

    def product(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return what the gradient of the weights is a product of, as the last run left it.

        Args:
            batch: Samples.

        Returns:
            A copy of the input, `(batch, in)`, and of the gradient of the output, `(batch, out)`.
        """
        assert self.signals is not None
        x, dy = (_features_first(signal, batch).T for signal in self.signals)
        return x, dy

    def gradients(self) -> list[tuple[nn.Parameter, Array]]:
        """List the parameters with the room for their gradients."""
        return list(zip(self.parameters, (self.of_values, self.of_bias), strict=False))

    def confine(self, tape: Tape) -> None:
        """Zero the gradients of weights that are masked and of biases that do not train."""
        if self.mask is not None:
            tape.call(mask_kernel(), self.of_values, self.mask)
        if self.dead is not None:
            tape.call(clear_kernel(), self.of_bias, self.dead)

    def _masks_version(self) -> int:
        return _version(self._mask)

    def _parameters(self) -> tuple[nn.Parameter | None, nn.Parameter | None]:
        held = self.module._parameters
        return held["values" if "values" in held else "weight"], held["bias"]

    def _check(self) -> None:
        module, name = self.module, self.name
        kind = type(module)
        if kind not in (CondensedLinear, MaskedLinear, nn.Linear) or kind is not self._kind:
            raise CannotCompile(f"{name} is a {kind.__name__}")
        if watched(module):
            raise CannotCompile(f"{name} has hooks")
        for parameter in module._parameters.values():
            if parameter is not None:
                check_parameter(parameter, name)
        buffers = module._buffers
        foreign = () if kind is CondensedLinear else _OTHER_TASKS
        if any(buffers.get(key("weight", what)) is not None for what in foreign):
            raise CannotCompile(f"{name} has weights of other tasks")
        if any(
            buffers.get(key("weight", what)) is not None
            or module._parameters.get(key("weight", what)) is not None
            for what in _NOT_ZERO
        ):
            raise CannotCompile(f"{name} keeps the values of inactive weights")


def check_parameter(parameter: Tensor, name: str) -> None:
    """Refuse parameters that no kernel takes."""
    if not parameter.is_cpu:
        raise CannotCompile(f"{name} is on {parameter.device}")
    if str(parameter.dtype) != "torch.float32":
        raise CannotCompile(f"{name} is {parameter.dtype}")
    if not parameter.is_contiguous():
        raise CannotCompile(f"{name} is not contiguous")


def _features_first(signal: Array, batch: int) -> Tensor:
    """Return a copy of `(tiles, features, tile)` as `(features, batch)`."""
    features = signal.shape[1]
    together = np.ascontiguousarray(signal.transpose(1, 0, 2)).reshape(features, -1)
    return torch.from_numpy(together[:, :batch])


def _version(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor._version


@functools.cache
def _full(features: int, rows: int) -> Pattern:
    return Pattern.from_mask(np.ones((rows, features), np.bool_))
