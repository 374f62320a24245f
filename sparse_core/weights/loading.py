"""The check that the topologies of a state have the budgets of the network that loads them.

A state that was saved with another sparsity, or a part of one whose other layers were other ones
(`erk` shares one budget among all), would leave layers with another number of weights than the
configuration says: some methods never change that number.

A layer fits if it has the number of weights that its structure allows with its budget and as many
live neurons as the state has. Methods that prune may have any number from the last budget up to the
first, MEST its slack more, and blocks up to a block less. Where weights move between layers, their
sum over the layers counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse_core.budgets.patterns import ConstantFanIn, Unstructured, group_of
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.kernels.format import Pattern
from sparse_core.layers.companions import key
from sparse_core.layers.translation import integers
from sparse_core.weights.tensor import SparseTensor

WAYS_OUT = (
    "nothing was loaded; give both networks one sparsity and budgets that do not depend on other "
    "layers: distribution='uniform' or layer_sparsity, or dense=('output',) if their outputs differ"
)


@dataclass(frozen=True)
class SavedTopology:
    """The topology that a state has for one layer.

    Attributes:
        weights: Active weights.
        held: How much of the capacity of the layer's structure they use.
        live: `(lanes,)` bool, lanes that have any; None: the structure has no lanes to lose.
    """

    weights: int
    held: int
    live: Tensor | None


class _OtherShape(Exception):
    """The state belongs to layers of other shapes."""


def check_budgets(
    tensors: Sequence[SparseTensor], config: SparseConfig, state: Mapping[str, Any], prefix: str
) -> None:
    """Check the topologies of a state that is about to be loaded, as far as it has any.

    Args:
        tensors: The sparse weights of a network.
        config: Its configuration.
        state: Of either backend. One of layers of other shapes is left to `load_state_dict`.
        prefix: What the network's names begin with there.

    Raises:
        InputError: In one line that names the layer, both counts and the ways out.
    """
    try:
        found = {t: f for t in tensors if (f := _topology_of(t, state, prefix)) is not None}
    except _OtherShape:
        return
    if config.across_layers:
        _check_sum(tensors, found)
        return
    for tensor, there in found.items():
        low, high = _bounds(tensor, config, there.live)
        if not low <= there.held <= high:
            raise InputError(
                f"layer {tensor.name!r}: the state has {there.weights} active weights, this "
                f"network has {tensor.count()}: {WAYS_OUT}"
            )


def _check_sum(
    tensors: Sequence[SparseTensor], found: Mapping[SparseTensor, SavedTopology]
) -> None:
    if not found:
        return
    total = sum(found[t].weights if t in found else t.count() for t in tensors)
    low = sum(min(t.budget, t.initial_budget) for t in tensors)
    high = sum(max(t.budget, t.initial_budget) for t in tensors)
    if not low <= total <= high:
        names = ", ".join(repr(tensor.name) for tensor in found)
        raise InputError(
            f"layers {names}: with the state's the network would have {total} active weights, its "
            f"budget is {low}: {WAYS_OUT}"
        )


def _bounds(tensor: SparseTensor, config: SparseConfig, live: Tensor | None) -> tuple[int, int]:
    """Return the least and the most that a layer may hold, with so many lanes alive."""
    structure, shape = tensor.structure, (tensor.rows, tensor.cols)

    def capacity(budget: int) -> Tensor:
        return structure.capacity(budget, *shape, live)

    lanes, prices = capacity(tensor.budget), structure.prices(*shape)
    ends = (int(lanes.sum()), int(capacity(tensor.initial_budget).sum()))
    low, high = min(ends), max(ends)
    if config.slack:
        high += int((lanes * config.slack).long().sum())
    if prices is not None:  # a block that the rest of the budget does not pay for is not taken
        low -= int(prices.max()) - 1
    return low, high


def _topology_of(
    tensor: SparseTensor, state: Mapping[str, Any], prefix: str
) -> SavedTopology | None:
    """Return a layer's topology in a state; None: the state has none, or numbers that are none."""
    mask = state.get(key(prefix + tensor.name, "mask"))
    if isinstance(mask, Tensor):
        if tuple(mask.shape) != tensor.shape:
            raise _OtherShape
        if bool(((mask != 0) & (mask != 1)).any()):
            return None
        return _of_mask(tensor, (mask != 0).reshape(tensor.rows, tensor.cols).cpu())
    stem = prefix + tensor.condensed_stem
    columns, lengths = state.get(f"{stem}columns"), state.get(f"{stem}lengths")
    if isinstance(columns, Tensor) and isinstance(lengths, Tensor):
        if bool((lengths != lengths.round()).any()):
            return None
        return _of_lengths(tensor, columns, lengths)
    return None


def _of_mask(tensor: SparseTensor, mask: Tensor) -> SavedTopology:
    weights = int(mask.sum())
    if isinstance(tensor.structure, Unstructured):
        return SavedTopology(weights, weights, None)
    cells = tensor.structure.any_in_cell(mask)
    held = tensor.structure.held(cells, tensor.rows, tensor.cols)
    return SavedTopology(weights, int(held.sum()), _live(held))


def _of_lengths(tensor: SparseTensor, columns: Tensor, lengths: Tensor) -> SavedTopology:
    group = group_of(tensor.structure)
    sizes = ConstantFanIn(group).sizes(tensor.rows)
    if lengths.shape != sizes.shape:
        raise _OtherShape
    if isinstance(tensor.structure, (Unstructured, ConstantFanIn)):
        held = torch.from_numpy(integers(lengths)).long()
        weights = int((held * sizes).sum())
        if isinstance(tensor.structure, Unstructured):
            return SavedTopology(weights, weights, None)
        return SavedTopology(weights, int(held.sum()), _live(held))
    try:
        pattern = Pattern.from_lengths(
            integers(columns), integers(lengths), tensor.cols, tensor.rows, group
        )
    except ValueError:
        raise _OtherShape from None
    return _of_mask(tensor, torch.from_numpy(pattern.to_mask()))


def _live(held: Tensor) -> Tensor | None:
    live = held > 0
    return live if bool(live.any()) else None
