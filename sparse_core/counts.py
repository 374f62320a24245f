"""How many weights are active: of each selected layer, of the budget, of the whole network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import is_lazy

from sparse_core.budgets.selection import Selected
from sparse_core.config import SparseConfig
from sparse_core.layers.companions import is_companion, key
from sparse_core.layers.state import Condensed
from sparse_core.weights.tensor import SparseTensor

NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
"""Layers whose weights are no matrices, whatever their shape."""

MAGNITUDES = ("weight_g", "original0")
"""What weight normalisation keeps of a weight beside its direction: a number for each neuron."""


@dataclass(frozen=True)
class LayerCount:
    """How many weights of a layer are active.

    Attributes:
        name: The parameter's full name.
        role: `input`, `hidden`, `output` or `qkv`.
        active: Active weights.
        total: All weights.
    """

    name: str
    role: str
    active: int
    total: int


def table(layers: Sequence[LayerCount]) -> str:
    """Return a table of the layers, one a line."""
    return "\n".join(
        f"  {layer.name:<40} {layer.role:<7} {layer.active:>9} / {layer.total:<9} "
        f"{layer.active / layer.total:.4f}"
        for layer in layers
    )


def products(selected: Sequence[Selected]) -> str:
    """Return a line on what of attention no weights make sparse; nothing where there is none."""
    if not any(item.reader is not None for item in selected):
        return ""
    return "\n  dense beside these: attention's products of queries, keys and values"


def of_layers(selected: Sequence[Selected], tensors: Sequence[SparseTensor]) -> list[LayerCount]:
    """Count the active weights of each selected layer, dense ones included."""
    active = {tensor.name: tensor.count() for tensor in tensors}
    return [LayerCount(s.name, s.role, active.get(s.name, s.numel), s.numel) for s in selected]


def counted_sparsity(
    layers: Sequence[LayerCount], selected: Sequence[Selected], config: SparseConfig
) -> float:
    """Return the sparsity over the layers that the requested one counts."""
    own = tuple(pattern for pattern, _ in config.layer_sparsity)
    exempt = own if config.dense_in_budget else own + config.kept_dense
    counted = [
        layer
        for layer, item in zip(layers, selected, strict=True)
        if not any(item.matches(pattern) for pattern in exempt)
    ]
    return _sparsity([(layer.active, layer.total) for layer in counted])


def network_sparsity(root: nn.Module) -> float:
    """Return the sparsity over all weight matrices of a network, dense ones included.

    Counted are all parameters of two dimensions or more but biases, scores and normalisation.
    """
    return _sparsity(list(_matrices(root)))


def _matrices(root: nn.Module) -> Iterator[tuple[int, int]]:
    """Yield the active weights and all weights of each matrix, shared ones once."""
    seen: set[int] = set()
    for module in root.modules():
        if isinstance(module, Condensed):
            rows, columns = module.dense_shape
            yield module.pattern.nnz, (rows - _padded(module)) * columns
        elif isinstance(module, NORMALISATIONS):
            continue
        for name, parameter in module._parameters.items():
            if parameter is None or id(parameter) in seen or is_lazy(parameter):
                continue
            seen.add(id(parameter))
            beside = "bias" in name or name in MAGNITUDES or is_companion(module, name)
            if parameter.dim() > 1 and not beside:
                mask = module._buffers.get(key(name, "mask"))
                places = parameter.numel() - _padded(module) * parameter[0].numel()
                yield places if mask is None else int(mask.count_nonzero()), places


def _padded(module: nn.Module) -> int:
    """Return how many rows hold no weights: one, in an embedding with a `padding_idx`."""
    return int(isinstance(module, nn.Embedding) and module.padding_idx is not None)


def _sparsity(counts: Sequence[tuple[int, int]]) -> float:
    total = sum(whole for _, whole in counts)
    return 1 - sum(active for active, _ in counts) / total if total else 0.0
