"""A first mask from a non-negative factorisation of who likes what (SparseRec's start).

    R ~ W H^T        R (users, items) of ones, W and H not negative

by multiplicative steps (Lee and Seung 2001, Theorem 1). Factors have few large entries in a row,
which say what a user or an item is about: those become the active weights. Rows are scaled to
length one before they are ranked together, so that those of few pairs get entries too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_core.checks import at_least
from sparse_core.streams import stream
from supervised.data.rows import Rows

ROUNDS = 30
_LEAST = 1e-9


def nmf_scores(likes: Rows, size: int, seed: int, rounds: int = ROUNDS) -> Tensor:
    """Return a score of each entry of the vectors, `(users + items, size) float32`, users first.

    Args:
        likes: Items for training, a row a user.
        size: Entries of a vector.
        seed: Seeds the first factors.
        rounds: Steps for either factor.
    """
    at_least("size", size, 1)
    at_least("rounds", rounds, 1)
    generator = stream(seed, "nmf")
    users = torch.rand(len(likes), size, generator=generator)
    items = torch.rand(likes.width, size, generator=generator)
    owners, columns = likes.owners, likes.columns
    for _ in range(rounds):
        users *= _summed(items, columns, owners, users) / (users @ (items.T @ items) + _LEAST)
        items *= _summed(users, owners, columns, items) / (items @ (users.T @ users) + _LEAST)
    return torch.cat([F.normalize(users, dim=1), F.normalize(items, dim=1)])


def _summed(source: Tensor, read: Tensor, written: Tensor, like: Tensor) -> Tensor:
    """Add rows of one matrix up in those of another, for every pair."""
    return torch.zeros_like(like).index_add_(0, written, source[read])
