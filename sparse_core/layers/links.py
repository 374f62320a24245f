"""The layers of a chain as they are now, in the form in which kernels take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from sparse_core.kernels import plan
from sparse_core.kernels.checks import as_bias, as_values
from sparse_core.kernels.format import Pattern
from sparse_core.layers.sharing import Shared
from sparse_core.layers.state import Condensed

ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Tanh: "tanh"}

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Link:
    """A layer of a chain, and the activation after it.

    Attributes:
        layer: The layer.
        pattern: The weights that it reads.
        values: (at least pattern.size,) what they are worth.
        bias: (out,); zeros where the layer has none.
        has_bias: Whether it has one.
        activation: `relu`, `tanh` or None.
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

    def holds(self, parameters: tuple[Tensor, ...], pattern: Pattern, after: str | None) -> bool:
        """Whether it still is what the layer is: arrays are views of the parameters' memory."""
        return (
            self.pattern is pattern
            and self.activation == after
            and len(self.parameters) == len(parameters)
            and all(map(_same, self.parameters, parameters, self.addresses))
        )


def _same(one: Tensor, other: Tensor, address: int) -> bool:
    return one is other and one.data_ptr() == address


def links_of(steps: Sequence[nn.Module]) -> list[Link]:
    """Return the links of a chain of condensed linear layers and activations."""
    last = len(steps) - 1
    return [
        link_of(step, ACTIVATIONS.get(type(steps[i + 1])) if i < last else None)
        for i, step in enumerate(steps)
        if isinstance(step, Condensed)
    ]


def link_of(layer: Condensed, activation: str | None) -> Link:
    """Return a layer's link: that of the last time, if it is as it was.

    Args:
        layer: The layer.
        activation: What comes after it: `relu`, `tanh` or None.
    """
    values, bias = layer._parameters["values"], layer._parameters["bias"]
    assert values is not None
    parameters = (values,) if bias is None else (values, bias)
    shared, kept = layer.shared, layer._link
    if (
        shared is None
        and layer.weight_given is None
        and isinstance(kept, Link)
        and kept.holds(parameters, layer.pattern, activation)
    ):
        return kept
    pattern, numbers = layer.pattern, values.detach().numpy()
    if shared is not None:
        pattern, numbers = shared.read(pattern, numbers)
    biases, given = None if bias is None else bias.detach().numpy(), layer.weight_given
    if biases is not None and given is not None:
        assert layer.weight_reserved is not None
        biases = np.where(layer.weight_reserved.numpy(), given.numpy(), biases)
    taken, offset = _as_taken(pattern, numbers, biases)
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


def _as_taken(pattern: Pattern, values: Array, bias: Array | None) -> tuple[Array, Array]:
    """Return values and bias as kernels take them; in double precision these are NumPy's."""
    if values.dtype == np.float32:
        return as_values(pattern, values), as_bias(pattern, bias)
    return values, plan.zeros(pattern) if bias is None else bias
