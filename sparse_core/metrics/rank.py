"""Effective rank of a representation (Kumar et al. 2021, "Implicit Under-Parameterization").

    srank_delta(Phi) = the least k with sum_{i <= k} sigma_i >= (1 - delta) sum_i sigma_i

sigma_i are the singular values of the features Phi, largest first.
"""

from __future__ import annotations

import torch
from torch import Tensor

DELTA = 0.01
"""The published threshold."""


def effective_rank(features: Tensor, delta: float = DELTA) -> int:
    """Return srank of features `(samples, features)`; 0 if all of them are 0."""
    values = torch.linalg.svdvals(features.detach().double())
    total = values.sum()
    if total == 0:
        return 0
    share = values.cumsum(0) / total
    return int((share < 1 - delta - 1e-12).sum()) + 1
