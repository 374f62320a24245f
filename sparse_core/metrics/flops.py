"""Floating-point operations of one forward pass, dense and with the active weights only.

A weight costs one multiplication and one addition wherever it is used:

    dense  = sum over layers of 2 positions * weights
    sparse = sum over layers of 2 positions * active weights

`positions` is how often a layer's weight matrix is applied: once a sample for a linear layer, once
a token in a sequence, once an output pixel for a convolution. A neuron without active weights costs
nothing. Counted are linear layers, convolutions in one to three dimensions (groups included) and
`nn.MultiheadAttention`, whose products of queries, keys and values cost the same dense or sparse.
An embedding is a lookup and costs nothing.

Ignored are biases, normalisation, activations, pooling and layers of other kinds. Zero padding is
multiplied like any other input. RigL (Evci et al. 2020, appendix H) counts the same way, but for
one operation more for each output element (bias and ReLU less the first addition), and its numbers
for ResNet-50 pad the first layer twice (115 x 115 positions instead of 112 x 112); together that
changes a ratio by less than 0.004.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sparse_core.checks import InputError
from sparse_core.engine import Engine
from sparse_core.layers.condensed_attention import CondensedMultiheadAttention
from sparse_core.layers.state import Condensed
from sparse_core.metrics.probing import undisturbed
from sparse_core.weights.tensor import SparseTensor

SPLIT_PROJECTIONS = ("q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class LayerFlops:
    """What one weight costs in a forward pass.

    Attributes:
        name: The parameter's full name.
        dense: Operations with all weights.
        weights: Its size.
        active: Its active weights.
    """

    name: str
    dense: int
    weights: int
    active: int

    @property
    def sparse(self) -> int:
        """Operations with the active weights."""
        return self.dense * self.active // self.weights


@dataclass(frozen=True)
class ModelFlops:
    """What a forward pass costs.

    Attributes:
        layers: Each weight that took part.
        products: Operations between activations (attention), which no mask makes cheaper.
    """

    layers: tuple[LayerFlops, ...]
    products: int = 0

    @property
    def dense(self) -> int:
        """Operations with all weights."""
        return self.products + sum(layer.dense for layer in self.layers)

    @property
    def sparse(self) -> int:
        """Operations with the active weights."""
        return self.products + sum(layer.sparse for layer in self.layers)

    @property
    def ratio(self) -> float:
        """Sparse over dense; 1 where nothing is counted."""
        return self.sparse / self.dense if self.dense else 1.0


def inference_flops(
    module: nn.Module, *shapes: Sequence[int], active: Mapping[str, int] | None = None
) -> ModelFlops:
    """Count the operations of one forward pass on one sample.

    Works on the meta device, where a network of any size costs nothing to build and run.

    Args:
        module: Any module whose forward takes one tensor for each shape.
        *shapes: The shape of each input, without the batch dimension.
        active: Active weights by parameter name, see `active_weights`; the other layers are dense.

    Raises:
        ValueError: If `active` names a parameter that is not counted.
    """
    like = next(module.parameters())
    inputs = [torch.zeros(1, *shape, dtype=like.dtype, device=like.device) for shape in shapes]
    with FlopCounter(module) as counter, undisturbed(module):
        module(*inputs)
    return counter.count(active)


def active_weights(engine: Engine, module: nn.Module | None = None) -> dict[str, int]:
    """Return the active weights of each sparse parameter.

    Args:
        engine: The engine.
        module: Name the parameters as this module does, which is a part of the engine's (an actor
            within its policy), and leave out what it does not have. None: the engine's own module.
    """
    return {name: tensor.count() for name, tensor in _tensors(engine, module)}


def trained_weights(engine: Engine, module: nn.Module | None = None) -> dict[str, int]:
    """Return the weights of each sparse parameter that receive a gradient at every step.

    They are the active ones, those of a backward mask (Top-KAST, SR-STE), or all of a layer with
    scores. Arguments as for `active_weights`.
    """
    return {name: _trained(tensor) for name, tensor in _tensors(engine, module)}


def _trained(tensor: SparseTensor) -> int:
    backward = tensor.companion("backward")
    if tensor.companion("scores") is not None:
        return tensor.numel
    return tensor.count() if backward is None else int((backward != 0).sum())


def _tensors(engine: Engine, module: nn.Module | None) -> Iterator[tuple[str, SparseTensor]]:
    """Yield each sparse weight with the name of its parameter in a module."""
    if module is None:
        yield from ((tensor.name, tensor) for tensor in engine.tensors)
        return
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for tensor in engine.tensors:
        if id(tensor.weight) in names:
            holder = names[id(tensor.weight)].rpartition(".")[0]
            layer, parameter = tensor.dense_place
            if layer is not tensor.layer:
                holder = holder.rpartition(".")[0]
            yield _join(holder, parameter), tensor


class FlopCounter:
    """Counts what all forward passes within a `with` block cost.

    For modules that `inference_flops` cannot call by shapes alone. The counts are those of the
    whole batch, and of all calls where a layer is called more than once.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._handles: list[RemovableHandle] = []
        self._dense: dict[str, int] = {}
        self._products = 0
        attention = [m for m in module.modules() if isinstance(m, CondensedMultiheadAttention)]
        self._projections = {called for each in attention for _, called in each.called()}
        self._called = self._projections | {each.out_proj for each in attention}
        self._sizes = {
            _join(name, parameter): shape.numel()
            for name, layer in module.named_modules()
            for parameter, shape in _weights(layer)
            if layer not in self._projections
        }

    def __enter__(self) -> FlopCounter:
        for name, layer in self._module.named_modules():
            if isinstance(layer, nn.MultiheadAttention):
                hook = self._attention_hook(name)
            elif _weights(layer) and layer not in self._called:
                hook = self._layer_hook(name)
            else:
                continue
            self._handles.append(layer.register_forward_hook(hook, with_kwargs=True))
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

    def count(self, active: Mapping[str, int] | None = None) -> ModelFlops:
        """Return what was counted; see `inference_flops` for `active`."""
        active = active or {}
        unknown = sorted(set(active) - set(self._sizes))
        if unknown:
            raise InputError(
                f"active={unknown}: no such weight; there are {', '.join(self._sizes)}",
                field="active",
            )
        layers = [
            LayerFlops(name, self._dense[name], size, active.get(name, size))
            for name, size in self._sizes.items()
            if name in self._dense
        ]
        return ModelFlops(tuple(layers), self._products)

    def _add(self, prefix: str, parameter: str, operations: int) -> None:
        name = _join(prefix, parameter)
        self._dense[name] = self._dense.get(name, 0) + operations

    def _layer_hook(self, name: str) -> Any:
        def hook(layer: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            ((parameter, shape),) = _weights(layer)
            positions = 0 if isinstance(layer, nn.Embedding) else output.numel() // shape[0]
            self._add(name, parameter, 2 * positions * shape.numel())

        return hook

    def _attention_hook(self, name: str) -> Any:
        def hook(layer: nn.MultiheadAttention, args: Any, kwargs: Any, output: Any) -> None:
            given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            query, key = given["query"], given["key"]
            batch = 1 if query.dim() == 2 else query.shape[0 if layer.batch_first else 1]
            queries, keys = query.numel() // query.shape[-1], key.numel() // key.shape[-1]
            width = layer.embed_dim
            if layer._qkv_same_embed_dim:
                self._add(name, "in_proj_weight", 2 * (queries + 2 * keys) * width * width)
            else:
                self._add(name, "q_proj_weight", 2 * queries * width * width)
                self._add(name, "k_proj_weight", 2 * keys * width * layer.kdim)
                self._add(name, "v_proj_weight", 2 * keys * width * layer.vdim)
            self._add(name, "out_proj.weight", 2 * queries * width * width)
            self._products += 4 * queries * (keys // batch) * width

        return hook


def _weights(layer: nn.Module) -> list[tuple[str, torch.Size]]:
    """List the dense shapes of what is counted of one module itself, not of its children."""
    if isinstance(layer, nn.MultiheadAttention):
        size = layer.embed_dim
        if layer._qkv_same_embed_dim:
            return [("in_proj_weight", torch.Size((3 * size, size)))]
        widths = zip(SPLIT_PROJECTIONS, (size, layer.kdim, layer.vdim), strict=True)
        return [(name, torch.Size((size, width))) for name, width in widths]
    if isinstance(layer, Condensed):
        return [("weight", torch.Size(layer.dense_shape))]
    if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)):
        return [("weight", layer.weight.shape)]
    return []


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
