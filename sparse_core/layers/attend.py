"""What attention computes between its projections: dense products of activations, masks, softmax.

    softmax(q k^T / sqrt(d) + masks) v      for each head      (Vaswani et al. 2017, section 3.2)

No mask over weights makes it cheaper. Arguments mean what they mean in
`torch.nn.functional.multi_head_attention_forward`, which cannot be had without its projections.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C import _is_tracing

from sparse_core.checks import InputError


@dataclass(frozen=True)
class Heads:
    """The heads of an attention module.

    Attributes:
        count: How many.
        size: Features of all heads together.
        dropout: The probability with which attention weights are dropped now.
        bias_k: `(1, 1, size)`, a key that is added to all others; None: none.
        bias_v: Its value.
        zero: Whether a key and a value of zeros are added.
    """

    count: int
    size: int
    dropout: float
    bias_k: Tensor | None
    bias_v: Tensor | None
    zero: bool

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        padding: Tensor | None,
        mask: Tensor | None,
        *,
        causal: bool,
        weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            q: `(batch, queries, size)`, projected.
            k: `(batch, keys, size)`.
            v: `(batch, keys, size)`.
            padding: `(batch, keys)`, bool or added to the scores.
            mask: `(queries, keys)` or `(batch * heads, queries, keys)`, likewise.
            causal: Whether the mask is the causal one.
            weights: Whether the attention weights are wanted.

        Returns:
            `(batch, queries, size)`, and the weights `(batch, heads, queries, keys)` or None.
        """
        batch, queries = q.shape[:2]
        if causal and mask is None:
            raise InputError(
                "is_causal=True: needs attn_mask, the causal mask, beside it", "is_causal"
            )
        if causal and padding is None and not weights:
            mask = None
        else:
            causal = False
        scores = self._added(padding, mask, (batch, queries, k.shape[1]), q.dtype)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(batch, -1, -1)], 1)
            v = torch.cat([v, self.bias_v.expand(batch, -1, -1)], 1)
        q, k, v = (x.reshape(*x.shape[:2], self.count, -1).transpose(1, 2) for x in (q, k, v))
        if self.zero:
            k, v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))
        if scores is not None:
            scores = F.pad(scores, (0, (self.bias_k is not None) + self.zero))
        if not weights:
            found = F.scaled_dot_product_attention(q, k, v, scores, self.dropout, causal)
            return found.transpose(1, 2).reshape(batch, queries, self.size), None
        shares = (q * math.sqrt(self.count / self.size)) @ k.transpose(-2, -1)
        shares = torch.softmax(shares if scores is None else shares + scores, -1)
        if self.dropout > 0:
            shares = F.dropout(shares, self.dropout)
        return (shares @ v).transpose(1, 2).reshape(batch, queries, self.size), shares

    def _added(
        self,
        padding: Tensor | None,
        mask: Tensor | None,
        shape: tuple[int, int, int],
        dtype: torch.dtype,
    ) -> Tensor | None:
        """Return what is added to the scores, in a shape that fits all heads' scores."""
        batch, queries, keys = shape
        added = None
        if mask is not None:
            fitting = [(queries, keys), (batch * self.count, queries, keys)]
            _check("attn_mask", mask, fitting)
            heads = (1, 1) if mask.dim() == 2 else (batch, self.count)
            added = _floats(mask, dtype).reshape(*heads, queries, keys)
        if padding is not None:
            _check("key_padding_mask", padding, [(batch, keys)])
            of_keys = _floats(padding, dtype).reshape(batch, 1, 1, keys)
            added = of_keys if added is None else added + of_keys
        return added


def _check(name: str, mask: Tensor, shapes: list[tuple[int, ...]]) -> None:
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise InputError(f"{name}: is {mask.dtype}, must be bool or floating")
    if not _is_tracing() and tuple(mask.shape) not in shapes:
        allowed = " or ".join(map(str, shapes))
        raise InputError(f"{name}: has shape {tuple(mask.shape)}, must have {allowed}")


def _floats(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
