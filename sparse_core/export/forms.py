"""A trained sparse network in the form in which it is used: condensed, as CSR, or dense for ONNX.

    small = condense(module)              active weights only, ablated neurons gone
    csr = to_torch_csr(module)            linear layers hold torch CSR weights
    to_onnx(module, example, path)        an ordinary dense graph, zeros where weights are inactive

All three make a copy and leave the module as it is. The copy is in eval mode on the CPU, its
parameters need no gradient, and it has no engine and no optimizer: it can be saved, copied and run,
not trained.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, ModuleType

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.optim import Optimizer

from sparse_core.checks import InputError
from sparse_core.export.convolution import CondensedConv2d, become_condensed_conv, conv_pays
from sparse_core.export.folding import remove_ablated
from sparse_core.layers import MaskedConv2d, MaskedEmbedding
from sparse_core.layers.chain import CondensedSequential, chain
from sparse_core.layers.choice import TYPICAL_BATCH
from sparse_core.layers.condensed import CondensedLinear, become_masked_again, hold
from sparse_core.layers.csr import become_csr
from sparse_core.layers.embedding import (
    CondensedEmbedding,
    become_condensed_embedding,
    become_dense_embedding,
)
from sparse_core.layers.fused import allow_fused_encoders, forbid_fused_encoders
from sparse_core.layers.linear import MaskedLinear
from sparse_core.layers.masked import Masked, become_dense
from sparse_core.layers.rows import Rows
from sparse_core.layers.state import Condensed
from sparse_core.weights.followers import Follower, hooks_of

LEFT_ALONE = (nn.Module, Optimizer, type, FunctionType, ModuleType)
"""What holds no tensors that a forward pass left, or is looked at by itself."""


def condense(module: nn.Module, batch: int = TYPICAL_BATCH) -> nn.Module:
    """Return a copy of a sparse network for inference, with condensed layers.

    Sparse linear layers store their active weights only, in groups of 2, 4 or 8 neurons where
    those share their columns. Ablated neurons are removed and their constants, activation(bias),
    folded into the bias of the next layer, where that is known: inside `nn.Sequential`, through
    elementwise activations. A Sequential is taken to be run as a whole. Elsewhere ablated neurons
    stay, without weights. Sparse `nn.Conv2d` layers are condensed where that is not slower, by the
    rule in `sparse_core.layers.choice`; masked embeddings become condensed, other layers dense ones
    with zeros.

    Args:
        module: Any module with masked or condensed layers, in any state of its training.
        batch: Samples that it will be given at once, for the choice of convolutions.

    Returns:
        The copy. In eval mode it computes what the module does, to rounding.

    Raises:
        ValueError: If a sparse linear layer is neither float32 nor float64.
    """
    result = _inference_copy(module)
    for layer in _called(result, MaskedLinear):
        _condense_linear(layer)
    for child in result.modules():
        if isinstance(child, Condensed):
            child.forget_training()
    for child in list(result.modules()):
        if isinstance(child, MaskedConv2d) and conv_pays(child, batch):
            become_condensed_conv(child)
    for child in list(result.modules()):
        if isinstance(child, MaskedEmbedding):
            become_condensed_embedding(child, child.get_buffer("weight_mask") != 0)
    _densify_masked(result)
    remove_ablated(result)
    allow_fused_encoders(result)
    chain(result)
    return result.requires_grad_(False)


def to_torch_csr(module: nn.Module) -> nn.Module:
    """Return a copy of a sparse network for inference whose linear layers have torch CSR weights.

    Sparse layers of other types become dense ones with zeros.

    Args:
        module: Any module with masked or condensed layers.
    """
    result = _inference_copy(module)
    for layer in [*_called(result, MaskedLinear), *_called(result, CondensedLinear)]:
        become_csr(layer, _rows(layer))
    _densify_masked(result)
    forbid_fused_encoders(result)
    return result.requires_grad_(False)


def to_onnx(module: nn.Module, example: Tensor | Sequence[Tensor], path: str | Path) -> None:
    """Write a sparse network as an ordinary ONNX graph, with zeros where weights are inactive.

    The first dimension of each input, the batch, may have any size in the graph.

    Args:
        module: Any module with masked or condensed layers whose inputs are tensors.
        example: Its input, or inputs, with two samples or more.
        path: The file to write.

    Raises:
        ModuleNotFoundError: If the extra `onnx` is not installed.
        ValueError: If an example has no batch of two samples or more.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"to_onnx needs {' and '.join(missing)}: pip install 'dstrl[onnx]'", name=missing[0]
        )
    inputs = (example,) if isinstance(example, Tensor) else tuple(example)
    for i, tensor in enumerate(inputs):
        if tensor.dim() == 0 or len(tensor) < 2:
            raise InputError(
                f"example {i} is {tuple(tensor.shape)}: needs a batch of two samples or more"
            )
    result = _inference_copy(module)
    _densify_masked(result)
    _densify_condensed(result)
    allow_fused_encoders(result)
    result.requires_grad_(False)
    batch = torch.export.Dim("batch", min=1)
    with _unchecked_distributions():
        torch.onnx.export(
            result,
            inputs,
            str(path),
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            external_data=False,
            verbose=False,
        )


@contextlib.contextmanager
def _unchecked_distributions() -> Iterator[None]:
    """Let distributions take their arguments as they are: a graph cannot look at numbers."""
    checked = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(checked)


def _inference_copy(module: nn.Module) -> nn.Module:
    """Return a copy in eval mode on the CPU, without engines and optimizers."""
    engine = object()
    memo: dict[int, object] = {}
    for child in module.modules():
        if "sparse_engine" in child.__dict__:
            memo[id(child.__dict__["sparse_engine"])] = engine
        for value in child.__dict__.values():
            if isinstance(value, Optimizer):
                memo[id(value)] = None
    for _, _, owner in hooks_of(module):
        if isinstance(owner, Follower):
            owner.catch_up()
            memo[id(owner)] = engine
    for tensor in _left_by_forward(module):  # `deepcopy` refuses to copy a part of a graph
        memo[id(tensor)] = tensor.detach().clone()
    result = copy.deepcopy(module, memo)
    for child in result.modules():
        child.__dict__.pop("sparse_engine", None)
        child._buffers.pop("sparse_clock", None)
    for hooks, key, owner in hooks_of(result):
        if owner is engine:
            del hooks[key]
    return result.cpu().eval()


def _left_by_forward(module: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors that forward passes left in a module's attributes, each part of a graph."""
    looked_at: set[int] = set()
    waiting: list[object] = [vars(child) for child in module.modules()]
    while waiting:
        value = waiting.pop()
        if id(value) in looked_at or isinstance(value, LEFT_ALONE):
            continue
        looked_at.add(id(value))
        if isinstance(value, Tensor):
            if value.grad_fn is not None:
                yield value
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple, set)):
            waiting.extend(value)
        elif hasattr(value, "__dict__"):
            waiting.append(vars(value))


def _called(root: nn.Module, kind: type[nn.Linear]) -> list[nn.Linear]:
    """List layers of a type, but for those whose weights attention reads without calling them."""
    read = [m.out_proj for m in root.modules() if isinstance(m, nn.MultiheadAttention)]
    return [
        m for m in root.modules() if isinstance(m, kind) and all(m is not other for other in read)
    ]


def _condense_linear(layer: nn.Linear) -> None:
    mask = layer.get_buffer("weight_mask")
    become_dense(layer)
    if layer.weight.dtype not in (torch.float32, torch.float64):
        raise InputError(f"condense: weights are {layer.weight.dtype}, not float32 or float64")
    if not bool((mask != 0).all()):
        rows = Rows.of_matrix(layer.weight.detach().numpy(), (mask != 0).numpy())
        hold(layer, *rows.condensed())


def _rows(layer: nn.Linear) -> Rows:
    if isinstance(layer, CondensedLinear):
        return Rows.of_pattern(layer.pattern, layer.values.detach().numpy())
    mask = layer.get_buffer("weight_mask")
    become_dense(layer)
    return Rows.of_matrix(layer.weight.detach().numpy(), (mask != 0).numpy())


def _densify_masked(root: nn.Module) -> None:
    for layer in root.modules():
        if isinstance(layer, Masked):
            become_dense(layer)


def _densify_condensed(root: nn.Module) -> None:
    for layer in list(root.modules()):
        if isinstance(layer, CondensedConv2d):
            layer.become_dense()
        elif isinstance(layer, CondensedEmbedding):
            become_dense_embedding(layer)
        elif isinstance(layer, CondensedLinear):
            become_masked_again(layer)
        elif type(layer) is CondensedSequential:
            layer.__class__ = nn.Sequential  # type: ignore[assignment]
