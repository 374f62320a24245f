"""Recommendations: the best items of each user, without those that are known already."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparse_core.checks import InputError, at_least
from supervised.data.rows import Rows
from supervised.rec.models import Recommender


@torch.no_grad()
def best_items(
    model: Recommender, users: Tensor, known: Rows, k: int, *, chunk: int = 256
) -> Tensor:
    """Return the k items of the highest scores for each user, best first, `(n, k) int64`.

    Args:
        model: The model, which is put into evaluation mode.
        users: `(n,) int64`.
        known: Items that are left out, a row for each user of the model.
        k: How many items.
        chunk: Users whose scores are in memory together, `chunk x items` numbers.

    Raises:
        InputError: If there are fewer items.
    """
    at_least("k", k, 1)
    at_least("chunk", chunk, 1)
    if k > known.width:
        raise InputError(f"k={k}: must be at most {known.width}, the items", field="k")
    if isinstance(model, nn.Module):
        model.eval()
    prepared = model.prepare()
    parts = [torch.zeros(0, k, dtype=torch.int64)]
    for some in torch.split(users, chunk):
        scores, seen = model.all_scores(some, prepared), known.take(some)
        scores[seen.owners, seen.columns] = -math.inf
        parts.append(scores.topk(k, 1)[1])
    return torch.cat(parts)
