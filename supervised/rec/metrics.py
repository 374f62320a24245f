"""Recall and nDCG at k over all items, averaged over users that have something to be found."""

from __future__ import annotations

import torch
from torch import Tensor

from sparse_core.checks import InputError, at_least
from supervised.data.ranking import gains, hits
from supervised.data.rows import Rows


def recall(best: Tensor, right: Rows, k: int) -> float:
    """Return Recall@k: the fraction of a user's items that is among the first k, over users.

    Args:
        best: Recommended items, best first, `(n, k or more) int64`.
        right: Items of n users, each at least one.
        k: How many recommendations count.

    Raises:
        InputError: If there are fewer, or a user has nothing to be found.
    """
    _check(best, right, k)
    found = hits(best[:, :k], right).double().sum(1)
    return float((found / right.lengths).mean())


def ndcg(best: Tensor, right: Rows, k: int) -> float:
    """Return nDCG@k: hits count 1 / log2(rank + 1), over the best that is possible, over users.

    Args:
        best: Recommended items, best first, `(n, k or more) int64`.
        right: Items of n users, each at least one.
        k: How many recommendations count.

    Raises:
        InputError: If there are fewer, or a user has nothing to be found.
    """
    _check(best, right, k)
    return float(gains(best, right, k).mean())


def _check(best: Tensor, right: Rows, k: int) -> None:
    at_least("k", k, 1)
    if k > best.shape[1]:
        raise InputError(f"k={k}: must be at most {best.shape[1]}, the recommendations", field="k")
    if len(best) != len(right):
        raise InputError(f"best: has {len(best)} rows, there are {len(right)} users", field="best")
    if not len(best) or not bool(torch.all(right.lengths > 0)):
        raise InputError("right: there must be users, each with an item to be found", field="right")
