"""The look-up of a condensed embedding on a GPU, as a function of autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparse_core.kernels.gpu import launch
from sparse_core.kernels.gpu.index import DeviceIndex


class LookUp(torch.autograd.Function):
    """Active weights of tokens in their columns; the gradient reaches those of tokens seen."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, tokens: Tensor, index: DeviceIndex, padding: int | None
    ) -> Tensor:
        """Map `(n,)` int64 to `(n, size)`."""
        ctx.save_for_backward(tokens)
        ctx.index, ctx.padding, ctx.capacity = index, padding, values.numel()
        return launch.look_up(index, values.detach(), tokens)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of the values; the row of `padding` gets none."""
        (tokens,) = ctx.saved_tensors
        if ctx.padding is not None:
            # A token beyond the vocabulary is nobody's.
            tokens = tokens.masked_fill(tokens == ctx.padding, ctx.index.out_features)
        found = launch.look_up_gradient(ctx.index, tokens, gradient.contiguous(), ctx.capacity)
        return found, None, None, None
