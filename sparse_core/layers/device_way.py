"""The way through a chain of condensed layers on a GPU: features by samples, kernels in Triton."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_core.kernels.gpu import launch
from sparse_core.kernels.gpu.activations import READS_INPUT
from sparse_core.kernels.gpu.index import DeviceIndex
from sparse_core.kernels.gpu.support import check_offsets
from sparse_core.layers.state import Condensed
from sparse_core.layers.ways import Gradients, Needed, Way


@dataclass(frozen=True, slots=True)
class DeviceLink:
    """A layer of a chain on a GPU, and the activation after it.

    Attributes:
        layer: The layer.
        index: The weights that it reads.
        values: (at least index.slots * index.group,) what they are worth.
        bias: (out,) or None.
        activation: One of `sparse_core.kernels.gpu.activations.CODES`.
    """

    layer: Condensed
    index: DeviceIndex
    values: Tensor
    bias: Tensor | None
    activation: str | None

    @property
    def has_bias(self) -> bool:
        """Whether the layer has a bias."""
        return self.bias is not None

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What the layer trains: its values and its bias, if it has one."""
        values, bias = self.layer._parameters["values"], self.layer._parameters["bias"]
        assert values is not None
        return (values,) if bias is None else (values, bias)


def device_link_of(layer: Condensed, activation: str | None) -> DeviceLink:
    """Return a layer's link, which reads its parameters as they are now."""
    layer.refuse_shared()
    bias = layer._parameters["bias"]
    return DeviceLink(
        layer,
        layer.index,
        layer.values.detach(),
        None if bias is None else bias.detach(),
        activation,
    )


class DeviceWay(Way[DeviceLink, Tensor]):
    """Signals are `(features, batch)`, with samples side by side.

    Args:
        batch: Samples.
        links: The layers of the chain.

    Raises:
        ValueError: If a signal would have 2^31 numbers or more.
    """

    def __init__(self, batch: int, links: list[DeviceLink]) -> None:
        features = [max(link.index.in_features, link.index.out_features) for link in links]
        check_offsets(activations=batch * max(features))

    def enter(self, rows: Tensor) -> Tensor:
        """Bring rows into the layout of signals."""
        return launch.turned(rows)

    def leave(self, signal: Tensor, out: Tensor | None = None) -> Tensor:
        """Bring a signal back into rows."""
        return launch.turned(signal)

    def forward(
        self, link: DeviceLink, signal: Tensor, keep: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute a layer."""
        out = signal.new_empty(link.index.out_features, signal.shape[1])
        aside = torch.empty_like(out) if keep and link.activation in READS_INPUT else None
        arrays = link.index, link.values, signal, link.bias
        launch.forward_of(*arrays, link.activation, out=out, before=aside)
        return signal, out, out if aside is None else aside

    def backward(
        self, link: DeviceLink, before: Tensor, signal: Tensor, needed: Needed
    ) -> Gradients[Tensor]:
        """Return a layer's gradients."""
        of_values = of_bias = None
        if needed.values:
            capacity = link.values.numel()
            of_values = launch.value_gradient_of(link.index, before, signal, capacity)
        if needed.bias:
            of_bias = launch.through(signal, None, None, sums=True)
        if needed.input:
            signal = launch.input_gradient_of(link.index, link.values, signal)
        return Gradients(signal, of_values, of_bias)

    def activation_backward(self, name: str, signal: Tensor, seen: Tensor) -> Tensor:
        """Return the gradient of an activation's input; `signal` is overwritten."""
        launch.through(signal, seen, name, sums=False)
        return signal

    def watched(self, before: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Return the arguments of `backward` as rows."""
        return launch.turned(before), launch.turned(signal)
