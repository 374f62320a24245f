"""Losses of a batch: scores of liked items `(n,)` and of negative ones `(n, negatives)`."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes both scores and returns the mean loss, differentiable."""


def bpr(liked: Tensor, negative: Tensor) -> Tensor:
    """-log sigmoid(liked - negative), Bayesian personalised ranking (Rendle et al. 2009, eq. 4)."""
    return F.softplus(negative - liked[:, None]).mean()


def bce(liked: Tensor, negative: Tensor) -> Tensor:
    """Logistic loss of each pair, whether it is liked (NCF, He et al. 2017, eq. 7)."""
    total = F.softplus(-liked).sum() + F.softplus(negative).sum()
    return total / (liked.numel() + negative.numel())
