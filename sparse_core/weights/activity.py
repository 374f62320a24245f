"""Which neurons fire, as seen in training itself, and which layers read them.

Hooks are there only for the steps before something asks, since a chain of condensed layers is not
computed as one while its modules are watched. What counts is the last forward pass of each layer in
which gradients were recorded, so that neither acting nor evaluation is looked at.

A layer's activation is that of the activation module that runs next after it, as in
`sparse_core.metrics.dormancy`. A layer reads another one if it is called with the very tensor that
the activation made, or with what modules that keep neurons apart made of it (dropout, pooling,
flatten). Networks that call functions instead (`F.relu`), or normalise or add in between, have
neurons that are seen by none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparse_core.layers.neurons import (
    ACTIVATIONS,
    CHANNEL_DIM,
    KEEPS_NEURONS_APART,
    relative_activity,
)


class Activity:
    """Watches a module's neurons while it is asked to.

    Args:
        root: The module.

    Attributes:
        on: Whether it watches.
    """

    def __init__(self, root: nn.Module) -> None:
        self.on = False
        self._root = root
        self._forget()

    def _forget(self) -> None:
        self._fired: dict[nn.Module, Tensor] = {}
        self._readers: dict[nn.Module, list[nn.Module]] = {}
        self._signals: dict[int, tuple[nn.Module, Tensor]] = {}
        self._pending: tuple[nn.Module, int] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"on": self.on, "_root": self._root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def watch(self, on: bool) -> None:
        """Begin or stop to watch; what was seen is forgotten."""
        self._forget()
        if on == self.on:
            return
        self.on = on
        for module in self._root.modules():
            if not on:
                _without(module._forward_hooks, self)
                _without(module._forward_pre_hooks, self)
            elif _dim(module) is not None:
                module.register_forward_pre_hook(self._read)
                module.register_forward_hook(self._computed)
            elif isinstance(module, ACTIVATIONS):
                module.register_forward_hook(self._activated)
            elif isinstance(module, KEEPS_NEURONS_APART):
                module.register_forward_hook(self._passed)

    @property
    def layers(self) -> list[nn.Module]:
        """The layers whose activations were seen."""
        return list(self._fired)

    def scores(self, layer: nn.Module) -> Tensor | None:
        """Return the `(neurons,)` scores of a layer, E |h_i| over its mean; None: not seen."""
        fired = self._fired.get(layer)
        return None if fired is None else relative_activity(fired)

    def dormant(self, layer: nn.Module, threshold: float) -> Tensor | None:
        """Return `(neurons,)` bool: scores of at most the threshold; None: not seen."""
        scores = self.scores(layer)
        return None if scores is None else scores <= threshold

    def readers(self, layer: nn.Module) -> list[nn.Module]:
        """Return the layers that read a layer's neurons."""
        return self._readers.get(layer, [])

    # Hooks ----------------------------------------------------------------------------------------

    def _read(self, layer: nn.Module, args: Any) -> None:
        source = self._source(args)
        if source is not None and layer not in self._readers[source]:
            self._readers[source].append(layer)

    def _computed(self, layer: nn.Module, args: Any, output: Any) -> None:
        dim = _dim(layer)
        seen = torch.is_grad_enabled() and isinstance(output, Tensor) and dim is not None
        self._pending = (layer, dim) if seen and dim is not None else None

    def _activated(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if self._pending is None:
            return
        layer, dim = self._pending
        self._pending = None
        neurons = layer.get_parameter("bias").numel() if layer.bias is not None else None
        if output.dim() < -dim or (neurons is not None and output.shape[dim] != neurons):
            return
        for place in [p for p, (source, _) in self._signals.items() if source is layer]:
            del self._signals[place]
        self._fired[layer] = output.detach().movedim(dim, -1).flatten(0, -2).abs().mean(0)
        self._readers[layer] = []
        self._signals[id(output)] = (layer, output)

    def _passed(self, module: nn.Module, args: Any, output: Any) -> None:
        source = self._source(args)
        if source is not None and isinstance(output, Tensor):
            self._signals[id(output)] = (source, output)

    def _source(self, args: Any) -> nn.Module | None:
        """Return the layer whose neurons an input is; the tensors are kept, so ids are theirs."""
        found = self._signals.get(id(args[0])) if args else None
        return None if found is None else found[0]


def _dim(module: nn.Module) -> int | None:
    return next((dim for kind, dim in CHANNEL_DIM.items() if isinstance(module, kind)), None)


def _without(hooks: dict[int, Any], owner: Activity) -> None:
    for key in [key for key, hook in hooks.items() if getattr(hook, "__self__", None) is owner]:
        del hooks[key]
