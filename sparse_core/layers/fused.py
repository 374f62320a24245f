"""`nn.TransformerEncoderLayer` computes its inference in one fused call, which reads raw weights.

It would read weights that a mask leaves out wherever they are not zero, and finds none at all in a
condensed layer. A module with a forward hook anywhere in it is never fused; padded batches become
nested tensors for the fused path only.
"""

from __future__ import annotations

from torch import nn

from sparse_core.layers.condensed_attention import CondensedMultiheadAttention
from sparse_core.layers.csr import CsrLinear
from sparse_core.layers.masked import Masked
from sparse_core.layers.state import Condensed


def forbid_fused_encoders(root: nn.Module) -> None:
    """Keep the encoder layers of a module that hold sparse layers from being fused."""
    for module in root.modules():
        if isinstance(module, nn.TransformerEncoder) and _is_sparse(module):
            module.use_nested_tensor = False
        if isinstance(module, nn.TransformerEncoderLayer) and _is_sparse(module):
            if _see_forward not in module._forward_pre_hooks.values():
                module.register_forward_pre_hook(_see_forward)


def allow_fused_encoders(root: nn.Module) -> None:
    """Let the encoder layers of a module that hold no sparse layer any more be fused again."""
    for module in root.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and not _is_sparse(module):
            for key, hook in list(module._forward_pre_hooks.items()):
                if hook is _see_forward:
                    del module._forward_pre_hooks[key]


def _is_sparse(root: nn.Module) -> bool:
    kinds = (Masked, Condensed, CsrLinear, CondensedMultiheadAttention)
    return any(isinstance(module, kinds) for module in root.modules())


def _see_forward(layer: nn.Module, args: object) -> None:
    """Do nothing; being there is enough."""
