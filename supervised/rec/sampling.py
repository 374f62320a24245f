"""Negative items: such as a user has not liked, so far as the training pairs say.

Nothing is drawn and thrown away: a number below the count of a user's unseen items names one of
them. A draw therefore takes the same time for all users and always ends.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparse_core.checks import InputError
from supervised.data.rows import Rows


class Negatives:
    """Draws items uniformly from those that a user has not got.

    Args:
        likes: A row of items a user.

    Raises:
        InputError: If a user has all items.
    """

    def __init__(self, likes: Rows) -> None:
        self.items, self.begins = likes.width, likes.begins
        self.unseen = likes.width - likes.lengths
        full = (self.unseen == 0).nonzero()[:, 0]
        if len(full):
            raise InputError(
                f"user {int(full[0])} has all {self.items} items, so it has no negative ones"
            )
        # How many unseen items are below each seen one, ascending in a row, and rows apart.
        ranks = torch.arange(len(likes.columns)) - likes.begins[likes.owners]
        self.keys = likes.owners * (self.items + 1) + likes.columns - ranks

    def draw(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """Return an item for each of `users`, of any shape, int64."""
        parts = torch.rand(users.shape, generator=generator, dtype=torch.float64)
        return self.unseen_item(users, (parts * self.unseen[users]).long())

    def unseen_item(self, users: Tensor, rank: Tensor) -> Tensor:
        """Return the item that is the `rank`-th unseen one of each user, counted from 0."""
        asked = users * (self.items + 1) + rank
        below = torch.searchsorted(self.keys, asked, right=True) - self.begins[users]
        return rank + below
