"""What metrics of rankings share: which of the entries that were ranked first are right."""

from __future__ import annotations

import torch
from torch import Tensor

from supervised.data.rows import Rows


def hits(best: Tensor, right: Rows) -> Tensor:
    """Return which predictions are right, `(n, k) bool`.

    Args:
        best: Predicted columns, best first, `(n, k) int64`, each at most once in a row.
        right: The right ones, n rows.
    """
    keys = right.owners * right.width + right.columns
    asked = torch.arange(len(best))[:, None] * right.width + best
    return torch.isin(asked, keys)


def gains(best: Tensor, right: Rows, k: int) -> Tensor:
    """Return nDCG@k of each row, `(n,) float64`: 1 / log2(rank + 1) of each hit, over the best.

    Rows without right entries have zero.

    Args:
        best: Predicted columns, best first, `(n, k or more) int64`.
        right: The right ones, n rows.
        k: How many predictions count.
    """
    discounts = (torch.arange(k, dtype=torch.float64) + 2).log2().reciprocal()
    gained = (hits(best[:, :k], right) * discounts).sum(1)
    possible = torch.cat([discounts.new_zeros(1), discounts.cumsum(0)])
    ideal = possible[right.lengths.clamp(max=k)]
    return torch.where(ideal > 0, gained / ideal.clamp(min=1e-12), 0.0)
