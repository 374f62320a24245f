"""SR-STE: N:M patterns trained with a sparse-refined straight-through estimator."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparse_core.updaters.topkast import TopKAST
from sparse_core.weights.masked import MaskedTensor
from sparse_core.weights.tensor import SparseTensor


class SRSTE(TopKAST):
    """Learning N:M structured sparsity from scratch (Zhou et al. 2021, section 3).

    The N largest of every M weights are used, chosen again after every step; the gradient reaches
    all weights as if there were no mask, and those outside it decay: grad + `penalty` (1 - mask)
    w, eq. 10.
    """

    def before_step(self, tensors: Sequence[SparseTensor]) -> None:
        """Add the decay of the weights that are not used."""
        for tensor in tensors:
            assert isinstance(tensor, MaskedTensor)
            if tensor.weight.grad is not None:
                outside = (1 - tensor.mask) * tensor.weight.detach()
                tensor.weight.grad.add_(outside, alpha=self.config.penalty)

    def _widen(self, tensor: SparseTensor) -> None:
        backward = tensor.companion("backward")
        assert backward is not None
        backward.copy_(torch.ones_like(backward))
