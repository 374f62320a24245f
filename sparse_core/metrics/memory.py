"""Bytes of a network in training: what is held dense, and what a condensed format stores.

    dense        weights * item size
    condensed    active * item size + indices + rows
    indices      (active / g) * (2 where a row has at most 65536 columns, else 4)
    rows         0              if all neurons have the same fan-in
                 4 * live       if all that are not ablated have it (their numbers)
                 4 * (rows + 1) otherwise (where each row begins)

g neurons share their columns where the structure is grouped. Gradients and optimizer moments of a
condensed weight have one item for each active weight and need no indices of their own. All other
parameters (biases, normalisation, dense layers) count in full on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparse_core.budgets.patterns import group_of
from sparse_core.engine import Engine

INDEX_BYTES = 4
SHORT_INDEX_BYTES = 2
SHORT_INDEX_COLUMNS = 65536


@dataclass(frozen=True)
class Bytes:
    """Bytes by what they hold.

    Attributes:
        weights: Parameters, with their indices.
        gradients: A gradient of each parameter that is trained.
        optimizer: The optimizer's moments, as many as it holds now: none before its first step.
    """

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer

    def __add__(self, other: Bytes) -> Bytes:
        return Bytes(
            self.weights + other.weights,
            self.gradients + other.gradients,
            self.optimizer + other.optimizer,
        )


@dataclass(frozen=True)
class Memory:
    """Bytes of a network in training.

    Attributes:
        dense: With all weights.
        condensed: With the active ones.
    """

    dense: Bytes
    condensed: Bytes

    @property
    def ratio(self) -> float:
        """Condensed over dense."""
        return self.condensed.total / self.dense.total


def memory(engine: Engine) -> Memory:
    """Count the bytes of all parameters of the engine's module.

    Where inactive weights keep values of their own (Top-KAST, SR-STE) nothing can be condensed.
    """
    sparse = {id(tensor.weight): tensor for tensor in engine.tensors}
    dense, condensed = Bytes(), Bytes()
    for parameter in engine.root.parameters():
        moments = _moments(engine.optimizer, parameter)
        tensor = sparse.get(id(parameter))
        whole = _plain(parameter, parameter.numel() if tensor is None else tensor.numel, moments)
        dense += whole
        if tensor is None or tensor.latent:
            condensed += whole
            continue
        condensed += _plain(parameter, tensor.count(), moments)
        condensed += Bytes(weights=index_bytes(tensor.active(), group_of(tensor.structure)))
    return Memory(dense, condensed)


def condensed_bytes(active: Tensor, item_size: int = 4, group: int = 1) -> int:
    """Return the bytes of one weight matrix in condensed form, by the formula above.

    Args:
        active: `(rows, cols)` bool, True = active.
        item_size: Bytes of a value.
        group: So many consecutive rows share their columns.
    """
    return int(active.sum()) * item_size + index_bytes(active, group)


def index_bytes(active: Tensor, group: int = 1) -> int:
    """Return what a condensed matrix needs beside its values; arguments as `condensed_bytes`."""
    rows, cols = active.shape
    width = SHORT_INDEX_BYTES if cols <= SHORT_INDEX_COLUMNS else INDEX_BYTES
    indices = width * int(active[::group].sum())
    fan_in = active.sum(1)
    live = fan_in[fan_in > 0]
    if live.numel() and bool((live != live[0]).any()):
        return indices + INDEX_BYTES * (rows + 1)
    return indices + (INDEX_BYTES * live.numel() if live.numel() < rows else 0)


def _moments(optimizer: Optimizer | None, parameter: Tensor) -> list[Tensor]:
    """List the optimizer's state tensors that are shaped like the parameter."""
    if optimizer is None:
        return []
    return [
        value
        for value in optimizer.state.get(parameter, {}).values()
        if torch.is_tensor(value) and value.dim() > 0 and value.shape == parameter.shape
    ]


def _plain(parameter: Tensor, items: int, moments: list[Tensor]) -> Bytes:
    weights = items * parameter.element_size()
    return Bytes(
        weights,
        weights if parameter.requires_grad else 0,
        items * sum(moment.element_size() for moment in moments),
    )
