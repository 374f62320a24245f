"""The look-up of a condensed embedding on the CPU, as functions of autograd.

Looking up is linear in the values, and the gradient of the values is the transposed map: each is
the other's derivative, so there are derivatives of every order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparse_core.kernels.embedding import look_up, look_up_gradient
from sparse_core.kernels.format import Pattern


class Gather(torch.autograd.Function):
    """Vectors of tokens, from the active weights."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, tokens: Tensor, pattern: Pattern, padding: int | None
    ) -> Tensor:
        """Map values `(capacity,)` and tokens `(n,)` int64 to `(n, size)`."""
        ctx.save_for_backward(tokens)
        ctx.pattern, ctx.padding, ctx.capacity = pattern, padding, values.numel()
        threads = torch.get_num_threads()
        found = look_up(pattern, values.detach().numpy(), tokens.numpy(), threads=threads)
        return torch.from_numpy(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of the values; the row of `padding` gets none."""
        (tokens,) = ctx.saved_tensors
        found = Scatter.apply(gradient, tokens, ctx.pattern, ctx.padding, ctx.capacity)  # type: ignore[no-untyped-call]
        return found, None, None, None


class Scatter(torch.autograd.Function):
    """The gradient of the active weights, from that of the tokens' vectors."""

    @staticmethod
    def forward(
        ctx: Any,
        gradient: Tensor,
        tokens: Tensor,
        pattern: Pattern,
        padding: int | None,
        capacity: int,
    ) -> Tensor:
        """Map gradients `(n, size)` of tokens `(n,)` int64 to `(capacity,)`."""
        ctx.save_for_backward(tokens)
        ctx.pattern, ctx.padding = pattern, padding
        found = look_up_gradient(
            pattern,
            gradient.detach().contiguous().numpy(),
            tokens.numpy(),
            capacity,
            padding=padding,
            threads=torch.get_num_threads(),
        )
        return torch.from_numpy(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return the gradient of the gradients of the tokens' vectors."""
        (tokens,) = ctx.saved_tensors
        found = Gather.apply(gradient.contiguous(), tokens, ctx.pattern, None)  # type: ignore[no-untyped-call]
        if ctx.padding is not None:
            found = found.masked_fill((tokens == ctx.padding)[:, None], 0)
        return found, None, None, None, None
