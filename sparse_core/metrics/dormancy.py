"""Dormant neurons: those that hardly fire (ReDo, Sokar et al. 2023, definition 3.1).

    score(i) = E |h_i| / mean over the layer's neurons k of E |h_k|

A neuron is tau-dormant if its score is at most tau. h is the output of the activation function; the
mean is over samples, and for a filter over the output's pixels too. In a layer that is silent
altogether every score is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sparse_core.checks import InputError
from sparse_core.layers.neurons import ACTIVATIONS, CHANNEL_DIM, relative_activity
from sparse_core.metrics.probing import undisturbed


@dataclass(frozen=True)
class Dormancy:
    """How many neurons are dormant.

    Attributes:
        dormant: Layer -> dormant neurons.
        total: Layer -> neurons.
    """

    dormant: dict[str, int]
    total: dict[str, int]

    @property
    def fraction(self) -> float:
        """Dormant neurons of all layers / neurons of all layers."""
        return sum(self.dormant.values()) / sum(self.total.values())


def dormant_scores(activations: Tensor, dim: int = -1) -> Tensor:
    """Return the `(neurons,)` scores of one layer.

    Args:
        activations: `(..., neurons, ...)` outputs of the activation function.
        dim: Which dimension counts the neurons: -1 for linear layers, 1 for convolutions.
    """
    return relative_activity(activations.movedim(dim, -1).flatten(0, -2).abs().mean(0))


class ActivationMeter:
    """Collects E |h_i| of each layer over the forward passes within a `with` block.

    A layer's activation is that of the activation module that runs next after it. Layers whose
    output meets no such module, an output layer above all, are left out. Modules that call
    functions instead (`F.relu`) need `activation`, which is then applied to the output of every
    layer.

    Both dense and sparse layers are looked at. An ablated neuron puts out its constant
    `activation(bias)`, and is dormant if that is.
    """

    def __init__(
        self, module: nn.Module, activation: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self._module = module
        self._activation = activation
        self._handles: list[RemovableHandle] = []
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._pending: tuple[str, int, int] | None = None

    def __enter__(self) -> ActivationMeter:
        for name, module in self._module.named_modules():
            dim = next((d for kind, d in CHANNEL_DIM.items() if isinstance(module, kind)), None)
            if dim is not None:
                self._handles.append(module.register_forward_hook(self._layer_hook(name, dim)))
            elif self._activation is None and isinstance(module, ACTIVATIONS):
                self._handles.append(module.register_forward_hook(self._activated))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def scores(self) -> dict[str, Tensor]:
        """Return layer -> `(neurons,)` scores.

        Raises:
            ValueError: If no activation was seen.
        """
        if not self._sums:
            raise InputError(
                f"{type(self._module).__name__}: no activation module ran after a layer; give "
                "`activation` if it calls a function instead"
            )
        return {
            name: relative_activity(total / self._counts[name])
            for name, total in self._sums.items()
        }

    def dormancy(self, tau: float = 0.0) -> Dormancy:
        """Count the neurons whose score is at most tau."""
        scores = self.scores()
        return Dormancy(
            {name: int((score <= tau).sum()) for name, score in scores.items()},
            {name: score.numel() for name, score in scores.items()},
        )

    def _layer_hook(self, name: str, dim: int) -> Any:
        def hook(layer: nn.Module, args: Any, output: Tensor) -> None:
            if self._activation is not None:
                self._record(name, dim, self._activation(output.detach()))
            else:
                self._pending = (name, dim, output.shape[dim])

        return hook

    def _activated(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if self._pending is None:
            return
        name, dim, neurons = self._pending
        if output.dim() >= -dim and output.shape[dim] == neurons:
            self._record(name, dim, output.detach())
        self._pending = None

    def _record(self, name: str, dim: int, activations: Tensor) -> None:
        per_neuron = activations.movedim(dim, -1).flatten(0, -2).abs()
        self._sums[name] = self._sums.get(name, 0) + per_neuron.sum(0)
        self._counts[name] = self._counts.get(name, 0) + per_neuron.shape[0]


def dormant_fraction(
    module: nn.Module,
    *inputs: Any,
    tau: float = 0.0,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """Return the fraction of neurons that are dormant on a batch.

    The module runs in eval mode, without gradients, and is left as it was.

    Args:
        module: Any module with linear or convolutional layers.
        *inputs: What its forward takes.
        tau: The threshold; 0 counts the neurons that never fire.
        activation: For modules without activation modules, see `ActivationMeter`.
    """
    with ActivationMeter(module, activation) as meter, undisturbed(module):
        module(*inputs)
    return meter.dormancy(tau).fraction
