"""Embeddings with sparse weights: masked, and condensed. A row is a token, `(vocabulary, size)`.

    y = W[token]        constant fan-in: k of the entries of each token's vector are active

The condensed form looks up the active weights of each token and puts them in their columns; the
gradient reaches the active weights of the tokens that were seen, and the row of `padding_idx` gets
none. Kernels do this in float32 (`sparse_core.kernels.embedding`), operations of torch in other
dtypes and where tasks share weights; where torch follows each operation, the dense matrix is looked
up, since how many weights there are depends on the tokens. The dense gradient that growth looks at
is zero for tokens that were not seen, in both forms.

An embedding that `sparsify` made sparse (`SparseConfig.embeddings`) has role `input`. Its tokens
are never ablated. The row of `padding_idx` has no active weights, so it reads as zeros, and counts
neither in the budget nor in the sparsity: with constant fan-in k = budget // (vocabulary - 1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparse_core.checks import InputError
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.gpu.support import DTYPES, check_offsets, why_not
from sparse_core.layers import torch_path
from sparse_core.layers.companions import forget
from sparse_core.layers.copies import see_training
from sparse_core.layers.gathered_rows import Gather
from sparse_core.layers.kinds import become
from sparse_core.layers.masked import Masked, become_masked, masked_weight
from sparse_core.layers.state import Condensed


class MaskedEmbedding(Masked, nn.Embedding):
    """`nn.Embedding` that looks up `weight * weight_mask`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map integers `(...)` to `(..., size)`."""
        return F.embedding(input, masked_weight(self), self.padding_idx)


class CondensedEmbedding(Condensed, nn.Embedding):
    """`nn.Embedding` with condensed weights, integers `(...)` to `(..., size)`."""

    @property
    def dense_shape(self) -> tuple[int, int]:
        """`(vocabulary, size)`."""
        return self.num_embeddings, self.embedding_dim

    @torch_path.opaque
    def forward(self, input: Tensor) -> Tensor:
        """Map integers `(...)` to `(..., size)`.

        Raises:
            IndexError: If a token is not in the vocabulary.
            TypeError: If the input is neither int32 nor int64.
        """
        self.check_average()
        if input.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"input must be int32 or int64, got {input.dtype}")
        tokens = input.reshape(-1).long()
        if torch_path.looked_into():
            padding = -1 if self.padding_idx is None else self.padding_idx
            out = torch.embedding(torch_path.weight_of(self), tokens, padding)
        else:
            out = self._look_up(tokens)
        see_training(self, out)
        tap = self.weight_tap
        if tap.armed:
            tap.watch_lookup(tokens, out, self.values, self.dense_shape, self.padding_idx)
        return out.reshape(*input.shape, self.embedding_dim)

    def _look_up(self, tokens: Tensor) -> Tensor:
        """Map `(n,)` int64 to `(n, size)`."""
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.num_embeddings:
            raise IndexError(
                f"tokens must be in [0, {self.num_embeddings}), got {int(tokens.min())} to "
                f"{int(tokens.max())}"
            )
        if self.on_device and self.values.dtype in DTYPES:
            self.refuse_shared()
            return device_look_up(self, self.values, tokens)
        if self.values.dtype == torch.float32 and self.shared is None:
            given = self.values, tokens, self.pattern, self.padding_idx
            found: Tensor = Gather.apply(*given)  # type: ignore[no-untyped-call]
            return found
        lengths = self.lengths.long()
        counts = lengths[tokens]
        owners = torch.repeat_interleave(counts)
        begins = (lengths.cumsum(0) - lengths)[tokens]
        firsts = counts.cumsum(0) - counts
        places = torch.arange(len(owners), device=owners.device) + (begins - firsts)[owners]
        chosen = self.values[places]
        if self.shared is not None:
            fixed = torch.from_numpy(self.shared.fixed)
            chosen = torch.where(fixed[places], chosen.detach(), chosen)
        if self.padding_idx is not None:
            padding = (tokens == self.padding_idx)[owners]
            chosen = torch.where(padding, chosen.detach(), chosen)
        out = self.values.new_zeros(len(tokens), self.embedding_dim)
        return out.index_put((owners, self.columns[places].long()), chosen)

    def dense_weight(self) -> Tensor:
        """Return the `(vocabulary, size)` weight, of any floating dtype, detached."""
        if self.on_device:
            return super().dense_weight()
        mask = self.mask()
        weight = self.values.new_zeros(mask.shape, requires_grad=False)
        weight[mask] = self.values.detach()[: self.pattern.size]
        return weight

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        return f"{super().extra_repr()}, active={self.pattern.nnz}"


def device_look_up(layer: CondensedEmbedding, values: Tensor, tokens: Tensor) -> Tensor:
    """Map tokens on a GPU, `(n,)` int64, to `(n, size)`, differentiable in `values`.

    Raises:
        ValueError: If the result would have 2^31 numbers or more.
    """
    from sparse_core.layers.device_lookup import LookUp

    check_offsets(vectors=tokens.numel() * layer.embedding_dim)
    found: Tensor = LookUp.apply(values, tokens, layer.index, layer.padding_idx)  # type: ignore[no-untyped-call]
    return found


def become_masked_embedding(layer: nn.Embedding, mask: Tensor) -> None:
    """Turn an embedding into its masked form, in place.

    Args:
        layer: An `nn.Embedding`.
        mask: `(vocabulary, size)` bool, True = active; what it leaves out becomes zero.

    Raises:
        ValueError: If the embedding has an option that needs the dense weight.
    """
    _check(layer, mask)
    become_masked(layer, MaskedEmbedding)
    with torch.no_grad():
        layer.get_buffer("weight_mask").copy_(mask)
        layer.weight.mul_(mask)


def become_condensed_embedding(
    layer: nn.Embedding, mask: Tensor, *, capacity: int | None = None
) -> None:
    """Turn an embedding into its condensed form, in place.

    Args:
        layer: An `nn.Embedding` or `MaskedEmbedding`, of any floating dtype on the CPU.
        mask: `(vocabulary, size)` bool, True = active.
        capacity: Weights there is room for; by default as many as the mask needs.

    Raises:
        ValueError: If the mask does not fit, nothing computes with it where the embedding is, or
            that has an option that needs the dense weight.
    """
    _check(layer, mask)
    weight = layer.weight
    reason = None if weight.is_cpu else why_not(weight.device, weight.dtype)
    if reason is not None:
        raise InputError(f"condensed embeddings: {reason}")
    if isinstance(layer, MaskedEmbedding):
        forget(layer, "weight")
    pattern = Pattern.from_mask(mask.cpu().numpy())
    capacity = pattern.size if capacity is None else max(capacity, pattern.size)
    values = layer.weight.new_zeros(capacity, requires_grad=False)
    values[: pattern.size] = layer.weight.detach()[mask]
    requires_grad = layer.weight.requires_grad
    others = {key: value for key, value in layer._parameters.items() if key != "weight"}
    layer._parameters.clear()
    become(layer, CondensedEmbedding)
    assert isinstance(layer, CondensedEmbedding)
    layer.values = nn.Parameter(values, requires_grad)
    layer._parameters.update(others)
    layer.remember_pattern(pattern, capacity)


def why_dense(layer: nn.Embedding) -> str | None:
    """Return which option of an embedding needs the dense weight, or None if none does."""
    for option in ("max_norm", "scale_grad_by_freq", "sparse"):
        if getattr(layer, option):
            return f"{option}={getattr(layer, option)}: needs a dense embedding"
    return None


def _check(layer: nn.Embedding, mask: Tensor) -> None:
    if mask.shape != layer.weight.shape or mask.dtype != torch.bool:
        raise InputError(
            f"mask must be bool of shape {tuple(layer.weight.shape)}, got {mask.dtype} "
            f"{tuple(mask.shape)}"
        )
    reason = why_dense(layer)
    if reason is not None:
        raise InputError(reason)
