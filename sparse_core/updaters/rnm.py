"""RNM: N:M patterns of the largest weights, chosen anew now and then."""

from __future__ import annotations

from collections.abc import Sequence

from sparse_core.updaters.topkast import TopKAST
from sparse_core.weights.tensor import SparseTensor


class RNM(TopKAST):
    """Row-wise N:M sparsity from scratch (RNM-TD3; Vrce et al. 2026, section 3).

    Each row's pieces of M weights use the N of largest magnitude. Only these are trained; the
    others keep their values, and enter again at an update when one in use has become smaller.
    """

    penalises = False

    def before_step(self, tensors: Sequence[SparseTensor]) -> None:
        """Leave the gradients as they are."""

    def _widen(self, tensor: SparseTensor) -> None:
        mask, backward = tensor.companion("mask"), tensor.companion("backward")
        assert mask is not None and backward is not None
        backward.copy_(mask)
