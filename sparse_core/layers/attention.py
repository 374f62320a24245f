"""Masked multi-head attention: the input projection is one `(3 E, E)` matrix of q, k and v rows.

`nn.MultiheadAttention` reads the weights of its projections without calling them, so the masks of
both its own `in_proj_weight` and its `out_proj.weight` are applied here. With condensed projections
it is `sparse_core.layers.condensed_attention`.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sparse_core.layers.masked import Masked, gated_bias, masked_weight
from sparse_core.layers.translation import undotted

PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


class MaskedMultiheadAttention(Masked, nn.MultiheadAttention):
    """`nn.MultiheadAttention` that computes with masked projections, without a fused path."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as the dense module does; the arguments are those of `nn.MultiheadAttention`."""
        batched = query.dim() == 3
        if self.batch_first and batched:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        split = not self._qkv_same_embed_dim
        output, weights = F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            None if split else masked_weight(self, "in_proj_weight"),
            gated_bias(self, "in_proj_weight", "in_proj_bias"),
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            masked_weight(self.out_proj),
            gated_bias(self.out_proj),
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=split,
            q_proj_weight=masked_weight(self, "q_proj_weight") if split else None,
            k_proj_weight=masked_weight(self, "k_proj_weight") if split else None,
            v_proj_weight=masked_weight(self, "v_proj_weight") if split else None,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return (output.transpose(0, 1) if self.batch_first and batched else output), weights

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name in PROJECTIONS:
            weight = self._parameters.get(name)
            if weight is None:
                continue
            try:
                undotted(state_dict, prefix, name.removesuffix("_weight"), tuple(weight.shape))
            except ValueError as error:
                error_msgs.append(f"{prefix}{name}: {error}")
                return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
