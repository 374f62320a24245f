"""Optimizer steps of a recommender, and the batches of its epochs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparse_core.streams import stream
from supervised.data.rows import Rows
from supervised.rec.losses import Loss
from supervised.rec.models import Recommender
from supervised.rec.sampling import Negatives


def step(
    model: Recommender,
    optimizer: Optimizer,
    loss: Loss,
    batch: tuple[Tensor, Tensor, Tensor],
    penalty: float,
) -> float:
    """Make one optimizer step, and return the loss without the penalty.

    Args:
        model: Scores the batch.
        optimizer: Trains the model.
        loss: Of `supervised.rec.losses`.
        batch: Users `(n,)`, liked items `(n,)` and negative ones `(n, negatives)`.
        penalty: Times half the squared length of the batch's vectors.
    """
    optimizer.zero_grad()
    scored = model.scores(*batch)
    value = loss(scored.liked, scored.negative)
    total = value + penalty * scored.penalty if penalty else value
    total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(value.detach())


class Batches:
    """The training pairs in batches, each epoch in an order and with negative items of its own.

    What an epoch does is a function of the seed and its number: a run may go on from any of them.

    Args:
        likes: Items for training, a row a user.
        batch_size: Pairs a step.
        negatives: Negative items for each pair.
        seed: The run's seed.
    """

    def __init__(self, likes: Rows, batch_size: int, negatives: int, seed: int) -> None:
        self.users, self.items = likes.owners, likes.columns
        self.sampler = Negatives(likes)
        self.batch_size, self.negatives, self.seed = batch_size, negatives, seed

    @property
    def count(self) -> int:
        """Optimizer steps of an epoch."""
        return -(-len(self.users) // self.batch_size)

    def of(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield users `(n,)`, liked items `(n,)` and negative ones `(n, negatives)`."""
        order = torch.randperm(len(self.users), generator=stream(self.seed, "batches", epoch))
        asked = self.users[:, None].expand(-1, self.negatives)
        # Drawn together: in the order of users this is several times faster than batch by batch.
        drawn = self.sampler.draw(asked, stream(self.seed, "negatives", epoch))
        for rows in torch.split(order, self.batch_size):
            yield self.users[rows], self.items[rows], drawn[rows]
