"""The topology as it is: density, exploration, neurons with and without weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from sparse_core.engine import Engine
from sparse_core.layers.neurons import KEEPS_NEURONS_APART
from sparse_core.weights.tensor import SparseTensor

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Fractions:
    """Fractions of the weights.

    Attributes:
        layers: Of each layer's.
        overall: Of those of all layers together.
    """

    layers: dict[str, float]
    overall: float


@dataclass(frozen=True)
class NeuronCount:
    """Neurons (or filters) of one layer.

    Attributes:
        name: The weight's name.
        total: All of them.
        active: Those with at least one active weight.
        dead_output: Active ones that no active weight of the next layer reads; None where the next
            layer is not evident.
    """

    name: str
    total: int
    active: int
    dead_output: int | None

    @property
    def ablated(self) -> int:
        """Neurons without weights."""
        return self.total - self.active


def density(engine: Engine) -> Fractions:
    """Return active / all weights of the selected layers, dense ones among them."""
    layers = engine.layers()
    return _shares((layer.name, layer.active, layer.total) for layer in layers)


def exploration(engine: Engine) -> Fractions:
    """Return the exploration rate R_s of the sparse layers.

        R_s = weights that have ever been active / all weights

    In-time over-parameterisation, ITOP (Liu et al. 2021, section 3). Where the topology never moves
    it is the density. Layers so large that nobody remembers which of their weights were ever active
    (`sparse_core.weights.condensed.REMEMBERED_BELOW`) are left out.
    """
    ever = [(tensor, tensor.seen()) for tensor in engine.tensors]
    if engine.updater is not None:
        ever = [(tensor, seen) for tensor, seen in ever if seen is not None]
    return _shares(
        (
            tensor.name,
            tensor.count() if seen is None else int(seen.sum()),
            tensor.places,
        )
        for tensor, seen in ever
    )


def neurons(engine: Engine) -> list[NeuronCount]:
    """Count the neurons of each sparse layer but embeddings: active, ablated, unread.

    The layer that reads a neuron is evident within an `nn.Sequential`, where only modules that keep
    neurons apart lie between (activations, dropout, batch norm, pooling, flatten).
    """
    following = _following(engine.root)
    by_layer = {id(tensor.layer): tensor for tensor in engine.tensors}
    counts = []
    for tensor in engine.tensors:
        if isinstance(tensor.layer, nn.Embedding):
            continue
        alive = tensor.active().any(1)
        reader = following.get(id(tensor.layer))
        read = None if reader is None else _read(tensor, reader, by_layer.get(id(reader)))
        dead = None if read is None else int((alive & ~read).sum())
        counts.append(NeuronCount(tensor.name, tensor.rows, int(alive.sum()), dead))
    return counts


def _shares(counts: Iterable[tuple[str, int, int]]) -> Fractions:
    rows = list(counts)
    total = sum(whole for _, _, whole in rows)
    return Fractions(
        {name: part / whole for name, part, whole in rows},
        sum(part for _, part, _ in rows) / total if total else 1.0,
    )


def _following(root: nn.Module) -> dict[int, nn.Module]:
    """Map the id of each layer to the layer that evidently reads it."""
    following: dict[int, nn.Module] = {}
    for sequence in root.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        previous: nn.Module | None = None
        for module in sequence:
            if isinstance(module, WEIGHTED):
                if previous is not None:
                    following[id(previous)] = module
                previous = module
            elif not isinstance(module, KEEPS_NEURONS_APART):
                previous = None
    return following


def _read(tensor: SparseTensor, reader: nn.Module, sparse: SparseTensor | None) -> Tensor | None:
    """Return `(rows,)` bool, which neurons of `tensor` the reader has a weight for."""
    if sparse is None:
        weight = reader.get_parameter("weight")
        inputs = weight.numel() // weight.shape[0]
    else:
        inputs = sparse.cols
    if getattr(reader, "groups", 1) != 1 or inputs % tensor.rows:
        return None
    if sparse is None:
        return tensor.active().new_ones(tensor.rows)
    return sparse.active().reshape(sparse.rows, tensor.rows, -1).any(2).any(0)
