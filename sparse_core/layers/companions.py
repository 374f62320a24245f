"""What lies beside a sparse parameter in its layer: one table of its companions.

The companion `seen` of a parameter `weight` is the buffer `weight_seen` of the layer, None while it
is not used. All code that makes, saves, copies or drops companions goes by this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Shape = Literal["weight", "rows"]


@dataclass(frozen=True)
class Companion:
    """A tensor beside a sparse parameter.

    Attributes:
        name: What the buffer's name ends in.
        shape: `weight`: that of the dense weight; `rows`: a number for each of its rows.
        saved: Whether it is part of the `state_dict`. The others can be derived, or are set by the
            code that loads a layer.
        masked: Whether masked layers can have it.
        condensed: Whether condensed layers can have it.
        trained: Whether it is a parameter, which layers have only where it is used.
    """

    name: str
    shape: Shape
    saved: bool = False
    masked: bool = True
    condensed: bool = True
    trained: bool = False


COMPANIONS = {
    companion.name: companion
    for companion in (
        # The topology. 1 = active.
        Companion("mask", "weight", saved=True, condensed=False),
        # 1 = receives a gradient though it may be inactive (Top-KAST, SR-STE).
        Companion("backward", "weight", saved=True, condensed=False),
        # The mask is chosen by it, and passes its gradient on to it (edge-popup, WSN).
        Companion("scores", "weight", saved=True, condensed=False, trained=True),
        # 1 = has ever been active. Condensed layers pack it to bits.
        Companion("seen", "weight", saved=True),
        # Running means of the dense gradient and of its square.
        Companion("gradient_mean", "weight", saved=True),
        Companion("gradient_square", "weight", saved=True),
        # Bool, weights of earlier tasks: read where the topology includes them, never written.
        Companion("protected", "weight"),
        # What protected weights are worth: it is read in their place, so nothing that happens to
        # the parameter changes them.
        Companion("frozen", "weight"),
        # Bool, protected weights that are read though the topology leaves them out.
        Companion("lent", "weight"),
        # Bool, neurons of earlier tasks, where the topology has no weights.
        Companion("reserved", "rows"),
        # The biases of those neurons, read in the place of the bias itself.
        Companion("given", "rows"),
        # Bool, neurons whose bias trains: not ablated, not reserved; None: all.
        Companion("live", "rows"),
    )
}


MEMORIES = tuple(c.name for c in COMPANIONS.values() if c.saved and c.condensed)
"""Companions that record the training so far, not the topology of now."""


def key(parameter: str, companion: str) -> str:
    """Return the name of a companion in the layer, or in a state: `weight_seen`.

    Args:
        parameter: The parameter's name, with or without its module's.
        companion: One of the table.
    """
    return f"{parameter}_{COMPANIONS[companion].name}"


def declare(layer: nn.Module, parameter: str, *, condensed: bool) -> None:
    """Make the buffers of all companions that a parameter can have, None until they are used."""
    for companion in COMPANIONS.values():
        fits = companion.condensed if condensed else companion.masked
        if fits and not companion.trained:
            layer.register_buffer(f"{parameter}_{companion.name}", None, persistent=companion.saved)


def forget(layer: nn.Module, parameter: str) -> None:
    """Drop all companions of a parameter."""
    for name in COMPANIONS:
        full = key(parameter, name)
        layer._buffers.pop(full, None)
        layer._parameters.pop(full, None)
        layer._non_persistent_buffers_set.discard(full)


def memories(layer: nn.Module, parameter: str) -> dict[str, Tensor]:
    """Return the companions of `MEMORIES` that are used, by name."""
    held = {name: layer._buffers.get(key(parameter, name)) for name in MEMORIES}
    return {name: tensor for name, tensor in held.items() if tensor is not None}


def is_companion(layer: nn.Module, name: str) -> bool:
    """Whether a buffer or parameter of a layer is a companion of one of its parameters."""
    return any(
        name.endswith(f"_{companion}") and name.removesuffix(f"_{companion}") in layer._parameters
        for companion in COMPANIONS
    )
