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
import torch.nn.functional as F
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
        vectors: Tensor = self.table(self._tokens(users, liked, negative))
        return _products(_parts(vectors, negative), _penalty(vectors, users))

    def prepare(self) -> Tensor:
        """Return all vectors, `(users + items, size)`."""
        found: Tensor = self.table(torch.arange(self.users + self.items))
        return found

    def all_scores(self, users: Tensor, prepared: object) -> Tensor:
        """Return the scores of all items for some users, `(n, items)`."""
        assert isinstance(prepared, Tensor)
        return prepared[users] @ prepared[self.users :].T

    def _tokens(self, users: Tensor, liked: Tensor, negative: Tensor) -> Tensor:
        """Return the rows of a batch: its users, liked items and negative ones."""
        return torch.cat([users, liked + self.users, negative.reshape(-1) + self.users])


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
        first, tokens = super().prepare(), self._tokens(users, liked, negative)
        found = _parts(F.embedding(tokens, self._averaged(first)), negative)
        return _products(found, _penalty(F.embedding(tokens, first), users))

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
        tokens = self._tokens(users, liked, negative)
        product, tower = self.table(tokens), self.tower_table(tokens)
        user, one, many = _parts(product, negative)
        tower_user, tower_one, tower_many = _parts(tower, negative)
        return Scored(
            self._fused(user, one, tower_user, tower_one),
            self._fused(user[:, None], many, tower_user[:, None], tower_many),
            _penalty(product, users) + _penalty(tower, users),
        )

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


Parts = tuple[Tensor, Tensor, Tensor]


def _parts(vectors: Tensor, negative: Tensor) -> Parts:
    """Cut the vectors of a batch in those of users, of liked items and of negative ones.

    Returns:
        `(n, size)` twice, and `(n, negatives, size)`.
    """
    n = len(negative)
    user, liked, others = torch.split(vectors, [n, n, negative.numel()])
    return user, liked, others.reshape(*negative.shape, -1)


def _penalty(vectors: Tensor, users: Tensor) -> Tensor:
    return vectors.square().sum() / (2 * len(users))


def _products(parts: Parts, penalty: Tensor) -> Scored:
    user, liked, negative = parts
    return Scored((user * liked).sum(-1), (user[:, None] * negative).sum(-1), penalty)
