"""The layers of a chain as they are now, in the form in which kernels take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_core.checks import InputError
from sparse_core.kernels import unchecked
from sparse_core.kernels.arguments import as_bias, as_values
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.gpu.support import why_not
from sparse_core.kernels.unchecked import Ready
from sparse_core.layers.sharing import Shared
from sparse_core.layers.state import Condensed

ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.GELU: "gelu"}
"""Activations that condensed layers compute themselves, with their names."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Link:
    """A layer of a chain, and the activation after it.

    Attributes:
        layer: The layer.
        pattern: The weights that it reads.
        values: (at least pattern.size,) what they are worth.
        bias: (out,); zeros where the layer has none.
        has_bias: Whether it has one.
        activation: `relu`, `tanh`, `gelu`, `gelu_tanh` or None.
        shared: Which of the weights are an earlier task's; None: none.
        parameters: What the layer trains: its values and its bias, if it has one.
        addresses: Where the memory of these lies.
    """

    layer: Condensed
    pattern: Pattern
    values: Array
    bias: Array
    has_bias: bool
    activation: str | None
    shared: Shared | None
    parameters: tuple[Tensor, ...]
    addresses: tuple[int, ...]

    def holds(
        self, values: Tensor, bias: Tensor | None, pattern: Pattern | None, after: str | None
    ) -> bool:
        """Whether the link still fits its layer: its arrays are views of the parameters' memory."""
        parameters, addresses = self.parameters, self.addresses
        if (
            self.pattern is not pattern
            or self.activation != after
            or values is not parameters[0]
            or values.data_ptr() != addresses[0]
        ):
            return False
        if bias is None:
            return not self.has_bias
        return self.has_bias and bias is parameters[1] and bias.data_ptr() == addresses[1]

    @cached_property
    def one_sample(self) -> Ready:
        """The layer on one sample, as `unchecked.one_sample`."""
        relu = self.activation == "relu"
        return unchecked.one_sample(self.pattern, self.values, self.bias, relu)


def layers_of(steps: Sequence[nn.Module]) -> list[tuple[Condensed, str | None]]:
    """Return the layers of a chain, each with the activation after it."""
    last = len(steps) - 1
    return [
        (step, activation_of(steps[i + 1]) if i < last else None)
        for i, step in enumerate(steps)
        if isinstance(step, Condensed)
    ]


def activation_of(module: nn.Module) -> str | None:
    """Return the name of an activation that a layer before it computes; None: it does not."""
    if type(module) is nn.GELU and module.approximate == "tanh":
        return "gelu_tanh"
    return ACTIVATIONS.get(type(module))


def check_weights(values: Tensor, layer: nn.Module) -> None:
    """Raise an InputError unless a layer's values have a device and dtype it can compute with."""
    if values.is_cpu:
        if values.dtype in (torch.float32, torch.float64):
            return
        raise InputError(
            f"{layer}: its weights are {values.dtype} on the CPU, condensed layers compute in "
            'float32 or float64 there; call .float(), or train with backend="masked"'
        )
    reason = None if values.dtype == torch.float64 else why_not(values.device, values.dtype)
    if reason is not None:
        raise InputError(f'{layer}: {reason}; or use .cpu(), or train with backend="masked"')


def link_of(layer: Condensed, activation: str | None) -> Link:
    """Return a layer's link; the last one again if the layer has not changed.

    Args:
        layer: The layer.
        activation: What comes after it: `relu`, `tanh`, `gelu`, `gelu_tanh` or None.
    """
    values, bias = layer._parameters["values"], layer._parameters["bias"]
    assert values is not None
    shared, kept, given = layer.shared, layer._link, layer._buffers["weight_given"]
    if (
        shared is None
        and given is None
        and isinstance(kept, Link)
        and kept.holds(values, bias, layer.pattern, activation)
    ):
        return kept
    check_weights(values, layer)
    if not values.is_cpu:
        raise InputError(f"{layer}: its weights are on {values.device}, those before on the CPU")
    pattern, numbers = layer.pattern, values.detach().numpy()
    if shared is not None:
        pattern, numbers = shared.read(pattern, numbers)
    biases = None if bias is None else bias.detach().numpy()
    if biases is not None and given is not None:
        assert layer.weight_reserved is not None
        biases = np.where(layer.weight_reserved.numpy(), given.numpy(), biases)
    parameters = (values,) if bias is None else (values, bias)
    taken, offset = as_values(pattern, numbers), as_bias(pattern, biases)
    link = Link(
        layer,
        pattern,
        taken,
        offset,
        bias is not None,
        activation,
        shared,
        parameters,
        tuple(parameter.data_ptr() for parameter in parameters),
    )
    views = taken is numbers and (biases is None or offset is biases)
    layer._link = link if views and shared is None and given is None else None
    return link
