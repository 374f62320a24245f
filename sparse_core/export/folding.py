"""Removal of ablated neurons: their output is a constant, which moves into the next bias.

    y = W a(V x + b) + c      with neuron i ablated, V_i = 0, a_i = a(b_i):
    y = W' a(V' x + b') + (c + sum of W_.i a_i)      W without column i, V and b without row i

Done inside `nn.Sequential`, between two linear layers that have nothing but elementwise activations
between them. A neuron that loses its last input in this way is removed in turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.condensed import CondensedLinear, store_condensed
from sparse_core.layers.kinds import computes_as
from sparse_core.layers.passing import watched
from sparse_core.layers.rows import Rows

ELEMENTWISE = (
    nn.CELU,
    nn.Dropout,
    nn.ELU,
    nn.GELU,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Identity,
    nn.LeakyReLU,
    nn.Mish,
    nn.ReLU,
    nn.ReLU6,
    nn.SELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
)
"""Activations through which a constant is a constant, dropout in eval mode among them."""

SEQUENCES = (nn.Sequential, CondensedSequential)
Pair = tuple[CondensedLinear, list[nn.Module], nn.Linear]


def remove_ablated(root: nn.Module) -> None:
    """Remove ablated neurons of condensed layers where the next layer is known, in place.

    A layer whose neurons are all ablated keeps one. Modules that are registered in two places, or
    watched by hooks, stay as they are.

    Args:
        root: A module in eval mode whose sparse linear layers are condensed.
    """
    uses = Counter(id(m) for _, m in root.named_modules(remove_duplicate=False))
    for sequence in list(root.modules()):
        if type(sequence) in SEQUENCES:
            for layer, between, after in _pairs(list(_leaves(sequence)), uses):
                _fold(layer, between, after)


def _leaves(sequence: nn.Module) -> Iterator[nn.Module]:
    for module in sequence.children():
        if type(module) in SEQUENCES and not watched(module):
            yield from _leaves(module)
        else:
            yield module


def _pairs(modules: list[nn.Module], uses: Counter[int]) -> Iterator[Pair]:
    layer: nn.Module | None = None
    between: list[nn.Module] = []
    for module in modules:
        alone = uses[id(module)] == 1 and not watched(module)
        if layer is not None and type(module) in ELEMENTWISE and not watched(module):
            between.append(module)
            continue
        if isinstance(layer, CondensedLinear) and alone and _is_linear(module):
            assert isinstance(module, nn.Linear)
            yield layer, between, module
        layer, between = (module, []) if alone and _is_linear(module) else (None, [])


def _is_linear(module: nn.Module) -> bool:
    plain = computes_as(module, [nn.Linear]) is not None
    return plain or (isinstance(module, CondensedLinear) and "forward" not in vars(module))


@torch.no_grad()
def _fold(layer: CondensedLinear, between: list[nn.Module], after: nn.Linear) -> None:
    absent = torch.from_numpy(layer.pattern.absent).long()
    if len(absent) == layer.out_features:
        absent = absent[1:]
    if not len(absent):
        return
    kept = torch.ones(layer.out_features, dtype=torch.bool)
    kept[absent] = False
    constants = torch.zeros(layer.out_features, dtype=layer.values.dtype)
    if layer.bias is not None:
        constants = layer.bias.detach().clone()
        layer.bias = nn.Parameter(layer.bias[kept])
    for activation in between:
        constants = activation(constants)
    rows = Rows.of_pattern(layer.pattern, layer.values.numpy())
    store_condensed(layer, *rows.with_rows(kept.numpy()).condensed())
    _drop_inputs(after, kept, constants.masked_fill(kept, 0.0))


def _drop_inputs(layer: nn.Linear, kept: Tensor, constants: Tensor) -> None:
    """Remove the inputs that are not kept; add what they contribute to the bias."""
    x = constants.double()
    if isinstance(layer, CondensedLinear):
        rows = Rows.of_pattern(layer.pattern, layer.values.numpy())
        added = torch.from_numpy(rows.times(x.numpy()))
        store_condensed(layer, *rows.with_columns(kept.numpy()).condensed())
    else:
        added = layer.weight[:, ~kept].double() @ x[~kept]
        layer.weight = nn.Parameter(layer.weight[:, kept].contiguous())
        layer.in_features = int(kept.sum())
    bias = cast(nn.Parameter | None, layer.bias)
    if bias is not None:
        layer.bias = nn.Parameter((bias.double() + added).to(constants.dtype))
    elif bool(added.any()):
        layer.bias = nn.Parameter(added.to(constants.dtype))
