"""Recommenders: matrix factorisation, LightGCN and NeuMF.

All keep a vector for each user and each item as rows of one embedding, users first; that table is
what becomes sparse, ranked as a whole as in DSL. A model gives `scores` of pairs for training and
`all_scores` of some users for recommending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from supervised.data.rows import Rows
from supervised.rec.graph import Graph

START = 0.1
"""Standard deviation of first vectors, as in LightGCN's code."""


@dataclass(frozen=True)
class Scored:
    """What a model says of a batch.

    Attributes:
        liked: `(n,)` scores of liked items.
        negative: `(n, negatives)` scores of negative items.
        penalty: Half the squared length of the vectors that were looked up, a number a sample.
    """

    liked: Tensor
    negative: Tensor
    penalty: Tensor


class Recommender(Protocol):
    """What training and prediction ask of a model, an `nn.Module`."""

    def scores(self, users: Tensor, liked: Tensor, negative: Tensor) -> Scored:
        """Score users `(n,)` with liked items `(n,)` and negative ones `(n, negatives)`."""
        ...

    def prepare(self) -> object:
        """Return what `all_scores` needs of all users and items."""
        ...

    def all_scores(self, users: Tensor, prepared: object) -> Tensor:
        """Return the scores of all items for some users, `(n, items)`."""
        ...


def _table(rows: int, size: int) -> nn.Embedding:
    table = nn.Embedding(rows, size)
    nn.init.normal_(table.weight, std=START)
    return table


class Factors(nn.Module):
    """Matrix factorisation: the score of a pair is the product of its vectors.

    Args:
        likes: Items for training, a row a user.
        size: Entries of a vector.
    """

    def __init__(self, likes: Rows, size: int) -> None:
        super().__init__()
        self.users, self.items = len(likes), likes.width
        self.table = _table(self.users + self.items, size)

    def scores(self, users: Tensor, liked: Tensor, negative: Tensor) -> Scored:
        """Score a batch; see `Recommender`."""
        return _products(*self._look_up(self.table, users, liked, negative))

    def prepare(self) -> Tensor:
        """Return all vectors, `(users + items, size)`."""
        found: Tensor = self.table(torch.arange(self.users + self.items))
        return found

    def all_scores(self, users: Tensor, prepared: object) -> Tensor:
        """Return the scores of all items for some users, `(n, items)`."""
        assert isinstance(prepared, Tensor)
        return prepared[users] @ prepared[self.users :].T

    def _look_up(
        self, table: nn.Module, users: Tensor, liked: Tensor, negative: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows of a batch: `(n, size)` twice and `(n, negatives, size)`."""
        n = len(users)
        tokens = torch.cat([users, liked + self.users, negative.reshape(-1) + self.users])
        found = table(tokens)
        return found[:n], found[n : 2 * n], found[2 * n :].reshape(*negative.shape, -1)


class LightGCN(Factors):
    """Vectors are averaged over a node's neighbourhood (He et al. 2020, eq. 3, 6 and 7).

    e_k = A e_{k-1}, and the vector of a node is the mean of e_0 to e_K.

    Args:
        likes: Items for training, a row a user.
        size: Entries of a vector.
        layers: K, how far the neighbourhood reaches.
    """

    def __init__(self, likes: Rows, size: int, layers: int) -> None:
        super().__init__(likes, size)
        self.graph, self.layers = Graph(likes), layers

    def scores(self, users: Tensor, liked: Tensor, negative: Tensor) -> Scored:
        """Score a batch; the penalty is that of e_0."""
        first = super().prepare()
        rows = self._look_up(_Rows(self._averaged(first)), users, liked, negative)
        penalty = _products(*self._look_up(_Rows(first), users, liked, negative)).penalty
        found = _products(*rows)
        return Scored(found.liked, found.negative, penalty)

    def prepare(self) -> Tensor:
        """Return all vectors, averaged, `(users + items, size)`."""
        return self._averaged(super().prepare())

    def _averaged(self, vectors: Tensor) -> Tensor:
        total = vectors
        for _ in range(self.layers):
            vectors = self.graph @ vectors
            total = total + vectors
        return total / (self.layers + 1)


class NeuMF(Factors):
    """A product and a network of layers on vectors of their own, fused (He et al. 2017, eq. 12).

    Args:
        likes: Items for training, a row a user.
        size: Entries of a vector of the product, and of one of the network.
        hidden: Neurons of the network's layers.
    """

    def __init__(self, likes: Rows, size: int, hidden: Sequence[int]) -> None:
        super().__init__(likes, size)
        self.tower_table = _table(self.users + self.items, size)
        layers: list[nn.Module] = []
        width = 2 * size
        for neurons in hidden:
            layers += [nn.Linear(width, neurons), nn.ReLU()]
            width = neurons
        self.tower = nn.Sequential(*layers)
        self.output = nn.Linear(size + width, 1)

    def scores(self, users: Tensor, liked: Tensor, negative: Tensor) -> Scored:
        """Score a batch; the penalty is that of both vectors."""
        product = self._look_up(self.table, users, liked, negative)
        tower = self._look_up(self.tower_table, users, liked, negative)
        user, tower_user = product[0], tower[0]
        found = self._fused(user, product[1], tower_user, tower[1])
        others = self._fused(user[:, None], product[2], tower_user[:, None], tower[2])
        penalty = _products(*product).penalty + _products(*tower).penalty
        return Scored(found, others, penalty)

    def prepare(self) -> Tensor:
        """Return all vectors of the product and the network, `(users + items, 2 size)`."""
        every = torch.arange(self.users + self.items)
        return torch.cat([self.table(every), self.tower_table(every)], 1)

    def all_scores(self, users: Tensor, prepared: object) -> Tensor:
        """Return the scores of all items for some users, `(n, items)`, a user at a time."""
        assert isinstance(prepared, Tensor)
        product, tower = prepared.chunk(2, 1)
        items = slice(self.users, None)
        of_user = [
            self._fused(product[user], product[items], tower[user], tower[items])
            for user in users.tolist()
        ]
        return torch.stack(of_user)

    def _fused(self, user: Tensor, item: Tensor, tower_user: Tensor, tower_item: Tensor) -> Tensor:
        pair = torch.cat([tower_user.expand_as(tower_item), tower_item], -1)
        hidden = self.tower(pair)
        found: Tensor = self.output(torch.cat([user * item, hidden], -1))
        return found.squeeze(-1)


class _Rows(nn.Module):
    """A matrix that is looked up like an embedding."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, tokens: Tensor) -> Tensor:
        return self.matrix[tokens]


def _products(user: Tensor, liked: Tensor, negative: Tensor) -> Scored:
    squares = user.square().sum() + liked.square().sum() + negative.square().sum()
    return Scored(
        (user * liked).sum(-1),
        (user[:, None] * negative).sum(-1),
        squares / (2 * len(user)),
    )
