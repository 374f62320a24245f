"""How many active entries a user or an item has, against how often it occurs in training.

DSL (Wang et al. 2024) says that growth gives popular items larger vectors; with constant fan-in
all have the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparse_core.engine import Engine
from supervised.data.rows import Rows

TABLE = "table.weight"


def active_entries(engine: Engine) -> Tensor | None:
    """Return the active entries of each row of the table, `(users + items,)`; None: it is dense."""
    for tensor in engine.tensors:
        if tensor.name == TABLE:
            return tensor.active().sum(1)
    return None


def by_popularity(entries: Tensor, pairs: Tensor) -> list[list[float]]:
    """Return mean training pairs and mean active entries of rows of like popularity.

    Args:
        entries: Active entries of some rows, `(n,)`.
        pairs: Training pairs of the same, `(n,)`.

    Returns:
        A pair of numbers for the rows of 0 pairs, of 1, of 2 to 3, of 4 to 7 and so on, where there
        are any.
    """
    bins = pairs.double().clamp(min=0.5).log2().floor().long()
    found = []
    for number in torch.unique(bins).tolist():
        here = bins == number
        found.append([float(pairs[here].double().mean()), float(entries[here].double().mean())])
    return found


def entries_of(engine: Engine, likes: Rows) -> dict[str, list[list[float]]]:
    """Return `by_popularity` of `users` and `items`; nothing where the table is dense."""
    entries = active_entries(engine)
    if entries is None:
        return {}
    users = len(likes)
    return {
        "users": by_popularity(entries[:users], likes.lengths),
        "items": by_popularity(entries[users:], likes.counts()),
    }
