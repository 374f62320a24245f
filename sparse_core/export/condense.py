"""A trained sparse network with condensed layers: active weights only, ablated neurons gone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparse_core.checks import InputError
from sparse_core.export.copies import inference_copy
from sparse_core.export.folding import remove_ablated
from sparse_core.kernels.conv_shape import CONV_GROUPS
from sparse_core.layers import MaskedConv2d, MaskedEmbedding
from sparse_core.layers.attention import MaskedMultiheadAttention
from sparse_core.layers.chaining import chain
from sparse_core.layers.choice import TYPICAL_BATCH
from sparse_core.layers.companions import key
from sparse_core.layers.condensed import store_condensed
from sparse_core.layers.condensed_attention import call_projections, called_linears, split_off
from sparse_core.layers.condensed_conv import store_condensed_conv, why_not_condensed_conv
from sparse_core.layers.conv_choice import conv_pays
from sparse_core.layers.dense import become_dense
from sparse_core.layers.embedding import become_condensed_embedding
from sparse_core.layers.fused import allow_fused_encoders
from sparse_core.layers.linear import MaskedLinear
from sparse_core.layers.masked import Masked, masked_parameters
from sparse_core.layers.rows import Rows
from sparse_core.layers.state import Condensed


def condense(module: nn.Module, batch: int = TYPICAL_BATCH) -> nn.Module:
    """Return a copy of a sparse network for inference, with condensed layers.

    Sparse linear layers store their active weights only, in groups of 2 to 32 neurons where
    those share their columns. Ablated neurons are removed and their constants, activation(bias),
    folded into the bias of the next layer, where that is known: inside `nn.Sequential`, through
    elementwise activations. A Sequential is taken to be run as a whole. Elsewhere ablated neurons
    stay, without weights. So do those of attention, whose projections are condensed and called one
    by one. Sparse `nn.Conv2d` layers are condensed where that is not slower, by the
    rule in `sparse_core.layers.conv_choice`; masked embeddings become condensed, other layers dense
    ones with zeros.

    Args:
        module: Any module with masked or condensed layers, in any state of its training.
        batch: Samples that it will be given at once, for the choice of convolutions.

    Returns:
        The copy. In eval mode it computes what the module does, to rounding.

    Raises:
        ValueError: If a sparse linear layer is neither float32 nor float64.
    """
    result = inference_copy(module)
    for child in list(result.modules()):
        if isinstance(child, MaskedMultiheadAttention):
            _condense_attention(child)
    for layer in called_linears(result, MaskedLinear):
        _condense_linear(layer)
    for child in result.modules():
        if isinstance(child, Condensed):
            child.forget_training()
    for child in list(result.modules()):
        if isinstance(child, MaskedConv2d):
            _condense_convolution(child, batch)
    for child in list(result.modules()):
        if isinstance(child, MaskedEmbedding):
            become_condensed_embedding(child, child.get_buffer(key("weight", "mask")) != 0)
    become_dense(result, Masked)
    remove_ablated(result)
    allow_fused_encoders(result)
    chain(result)
    return result.requires_grad_(False)


def _condense_convolution(layer: MaskedConv2d, batch: int) -> None:
    mask = layer.get_buffer(key("weight", "mask")) != 0
    rows = Rows.of_matrix(layer.weight.detach().flatten(1).numpy(), mask.flatten(1).numpy())
    shared = rows.group(CONV_GROUPS)
    group = shared if layer.out_channels // layer.groups % shared == 0 else 1
    possible = why_not_condensed_conv(layer, group) is None
    if possible and conv_pays(layer, rows.values.size, group, batch):
        become_dense(layer)
        store_condensed_conv(layer, *rows.condensed(group))


def _condense_attention(attention: MaskedMultiheadAttention) -> None:
    """Let an attention call its projections, the masked ones of which are condensed."""
    names = masked_parameters(attention)
    masks = {name: attention.get_buffer(key(name, "mask")) for name in names}
    given = isinstance(attention.out_proj, MaskedLinear)
    of_output = attention.out_proj.get_buffer(key("weight", "mask")) if given else None
    become_dense(attention)
    for name, mask in masks.items():
        _store(split_off(attention, name), mask)
    call_projections(attention)
    if of_output is not None:
        _store(attention.out_proj, of_output)


def _condense_linear(layer: nn.Linear) -> None:
    mask = layer.get_buffer(key("weight", "mask"))
    become_dense(layer)
    _store(layer, mask)


def _store(layer: nn.Linear, mask: Tensor) -> None:
    """Condense a dense layer whose inactive weights are zeros, unless all are active."""
    if layer.weight.dtype not in (torch.float32, torch.float64):
        raise InputError(f"condense: weights are {layer.weight.dtype}, not float32 or float64")
    if not bool((mask != 0).all()):
        rows = Rows.of_matrix(layer.weight.detach().numpy(), (mask != 0).numpy())
        store_condensed(layer, *rows.condensed())
