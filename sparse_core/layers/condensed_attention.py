"""Multi-head attention that calls its projections, so that they can be condensed.

`nn.MultiheadAttention` reads the weights of its projections without a call. Here they are modules:

    in_proj_weight   (3 E, E)                  in_proj                    with `in_proj_bias`
    q_proj_weight, k_proj_weight, ...          q_proj, k_proj, v_proj     beside `in_proj_bias`
    out_proj.weight  (E, E)                    out_proj

One of them that is dense stays a parameter. The rows of q, k and v are one matrix, as in torch and
as SRigL takes it (Lasby et al. 2024): one budget, one ranking where the method has one, and each
row may be ablated. Products between activations stay dense (`sparse_core.layers.attend`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C import _is_tracing

from sparse_core.checks import InputError
from sparse_core.layers.attend import Heads
from sparse_core.layers.attention import PROJECTIONS
from sparse_core.layers.companions import forget
from sparse_core.layers.dense import Sparse
from sparse_core.layers.kinds import become, own_class
from sparse_core.layers.masked import masked_parameters
from sparse_core.layers.row_parts import Part, run_parts
from sparse_core.layers.translation import dotted

CALLED = tuple(name.removesuffix("_weight") for name in PROJECTIONS)
"""Names of the modules that stand for input projections."""


class CondensedMultiheadAttention(Sparse, nn.MultiheadAttention):
    """`nn.MultiheadAttention` whose sparse projections are condensed, without a fused path.

    Made from a masked one in place by `sparsify(..., backend="condensed")`. Self-attention costs
    one product for q, k and v; where queries, keys and values are different tensors, each of them
    is multiplied by its own rows of `in_proj`.
    """

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
        """Attend as the dense module does; the arguments are those of `nn.MultiheadAttention`.

        Raises:
            InputError: If shapes do not fit.
        """
        if not _is_tracing():
            self._check(query, key, value)
        q, k, v = self._projected(query, key, value)
        batched = query.dim() == 3
        first = not batched or self.batch_first
        if not batched:
            q, k, v = q[None], k[None], v[None]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not first:
            q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        heads = Heads(
            self.num_heads, self.embed_dim, dropout, self.bias_k, self.bias_v, self.add_zero_attn
        )
        found, weights = heads.attend(
            q, k, v, key_padding_mask, attn_mask, causal=is_causal, weights=need_weights
        )
        output = self.out_proj(found if first else found.transpose(0, 1))
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights[0]
        return (output if batched else output[0]), weights

    def called(self) -> list[tuple[str, nn.Module]]:
        """List the modules that stand for input projections, with their names."""
        return [(name, self.get_submodule(name)) for name in CALLED if name in self._modules]

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        wanted = zip(("query", "key", "value"), (self.embed_dim, self.kdim, self.vdim), strict=True)
        for (name, size), x in zip(wanted, (query, key, value), strict=True):
            if x.dim() not in (2, 3) or x.dim() != query.dim() or x.shape[-1] != size:
                raise InputError(
                    f"{name}: has shape {tuple(x.shape)}, must have {size} features and 2 or 3 "
                    "dimensions, as many as query"
                )
        if key.shape[:-1] != value.shape[:-1]:
            raise InputError(
                f"value: has shape {tuple(value.shape)}, beside a key of {tuple(key.shape)}"
            )

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        if not self._qkv_same_embed_dim:
            biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
            each = zip(CALLED[1:], (query, key, value), biases, strict=True)
            return tuple(self._part(name, x, bias) for name, x, bias in each)
        size, parts = self.embed_dim, list[Part]()
        for i, x in enumerate((query, key, value)):
            if parts and parts[-1].input is x:
                parts[-1] = parts[-1]._replace(last=(i + 1) * size)
            else:
                parts.append(Part(x, i * size, (i + 1) * size))
        found = self._packed(parts)
        return tuple(y for out in found for y in torch.split(out, size, -1))

    def _packed(self, parts: list[Part]) -> list[Tensor]:
        """Apply rows of q, k and v."""
        called = self._modules.get("in_proj")
        if called is not None:
            return [called(parts[0].input)] if len(parts) == 1 else run_parts(called, parts)
        weight, bias = self.in_proj_weight, self.in_proj_bias
        assert weight is not None
        return [
            F.linear(x, weight[first:last], None if bias is None else bias[first:last])
            for x, first, last in parts
        ]

    def _part(self, name: str, x: Tensor, bias: Tensor | None) -> Tensor:
        called = self._modules.get(name)
        if called is None:
            return F.linear(x, self.get_parameter(f"{name}_weight"), bias)
        found: Tensor = called(x)
        return found if bias is None else found + bias

    def _take_dense_form(self, latent: bool) -> None:
        for name, called in self.called():
            if isinstance(called, Sparse):
                called._take_dense_form(latent)
            take_back(self, name)
        self.__class__ = own_class(self)  # type: ignore[assignment]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, _ in self.called():
            dotted(state_dict, prefix, name)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def split_off(attention: nn.MultiheadAttention, parameter: str) -> nn.Linear:
    """Make an input projection a dense linear module that the attention calls, in place.

    Args:
        attention: Masked, dense or condensed.
        parameter: One of its `PROJECTIONS`; its mask is lost. Once no other has one, the attention
            is a `CondensedMultiheadAttention`.

    Returns:
        The module, whose parameters are the attention's own.
    """
    weight, name = attention.get_parameter(parameter), parameter.removesuffix("_weight")
    called = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    called.weight = weight
    if parameter == "in_proj_weight":
        called.register_parameter("bias", attention._parameters["in_proj_bias"])
        attention._parameters["in_proj_bias"] = None
    forget(attention, parameter)
    vars(attention).pop(f"{parameter}_tap", None)
    attention._parameters[parameter] = None
    call_projections(attention)
    after = attention._modules.pop("out_proj")  # parameters keep their order
    attention._modules[name] = called.train(attention.training)
    attention._modules["out_proj"] = after
    return called


def call_projections(attention: nn.MultiheadAttention) -> None:
    """Let an attention call its projections, in place, unless it has masks of its own."""
    if not masked_parameters(attention):
        become(attention, CondensedMultiheadAttention)


def take_back(attention: nn.MultiheadAttention, name: str) -> None:
    """Make a projection that is a dense linear module a parameter of the attention again."""
    called = attention._modules.pop(name)
    assert isinstance(called, nn.Linear) and isinstance(called.weight, nn.Parameter)
    attention._parameters[f"{name}_weight"] = called.weight
    if name == "in_proj":
        attention._parameters["in_proj_bias"] = called._parameters["bias"]


def called_linears(root: nn.Module, kind: type[nn.Linear]) -> list[nn.Linear]:
    """List linear layers of a kind, except those that attention reads without calling them."""
    read = [
        module.out_proj
        for module in root.modules()
        if isinstance(module, nn.MultiheadAttention)
        and not isinstance(module, CondensedMultiheadAttention)
    ]
    return [
        m for m in root.modules() if isinstance(m, kind) and all(m is not other for other in read)
    ]
