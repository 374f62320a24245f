"""A trained sparse network whose linear layers hold torch CSR weights."""

from __future__ import annotations

import torch
from torch import nn

from sparse_core.checks import InputError
from sparse_core.export.copies import inference_copy
from sparse_core.layers.companions import key
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.condensed_attention import called_linears
from sparse_core.layers.condensed_conv import CondensedConv2d
from sparse_core.layers.csr import become_csr
from sparse_core.layers.dense import become_dense
from sparse_core.layers.fused import forbid_fused_encoders
from sparse_core.layers.linear import MaskedLinear
from sparse_core.layers.masked import Masked
from sparse_core.layers.rows import Rows


def to_torch_csr(module: nn.Module) -> nn.Module:
    """Return a copy of a sparse network for inference whose linear layers have torch CSR weights.

    Sparse layers of other types become dense ones with zeros.

    Args:
        module: Any module with masked or condensed layers.

    Raises:
        InputError: If a sparse linear layer is bfloat16, which NumPy does not know.
    """
    result = inference_copy(module)
    for kind in (MaskedLinear, CondensedLinear):
        for layer in called_linears(result, kind):
            dtype = next(layer.parameters()).dtype
            if dtype == torch.bfloat16:
                raise InputError(f"to_torch_csr: weights are {dtype}; call .float() first")
            become_csr(layer, _rows(layer))
    become_dense(result, Masked)
    become_dense(result, CondensedConv2d)
    forbid_fused_encoders(result)
    return result.requires_grad_(False)


def _rows(layer: nn.Linear) -> Rows:
    """Return the active weights of a condensed layer, or of a masked one that becomes dense."""
    if isinstance(layer, CondensedLinear):
        return Rows.of_pattern(layer.pattern, layer.values.detach().numpy())
    mask = layer.get_buffer(key("weight", "mask"))
    become_dense(layer)
    return Rows.of_matrix(layer.weight.detach().numpy(), (mask != 0).numpy())
