"""Batches cut from tensors, in place of Avalanche's loaders, which collect samples one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from continual.avalanche_compat import avalanche
from continual.runs.data import TaskData

Batch = tuple[Tensor, Tensor, Tensor]
"""Samples, classes and task labels."""


def make_batches(
    tasks: Sequence[TaskData], size: int, plugins: Sequence[Any], *, joint: bool
) -> TensorBatches:
    """Return the batches that go with the plugins before them.

    Args:
        tasks: The data.
        size: Samples of a batch.
        plugins: Those that come before.
        joint: Whether all tasks are learnt at once.
    """
    replay = [one for one in plugins if isinstance(one, avalanche.training.plugins.ReplayPlugin)]
    return Recalling(tasks, size, *replay) if replay else TensorBatches(tasks, size, joint=joint)


class TensorBatches(avalanche.core.SupervisedPlugin):  # type: ignore[name-defined, misc]
    """Shuffled batches of one task, or of all at once.

    Args:
        tasks: The data.
        size: Samples of a batch.
        joint: Whether all tasks are learnt at once.
    """

    def __init__(self, tasks: Sequence[TaskData], size: int, *, joint: bool = False) -> None:
        super().__init__()
        self.tasks = tasks
        self.size = size
        self.joint = joint
        self.labels = [0]

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Take the data loader's place."""
        alone = [strategy.experience.task_label]
        self.labels = list(range(len(self.tasks))) if self.joint else alone
        strategy.dataloader = self

    def __len__(self) -> int:
        return -(-self._ends()[-1] // self.size)

    def __iter__(self) -> Iterator[Batch]:
        ends = self._ends()
        for rows in torch.split(torch.randperm(ends[-1]), self.size):
            yield self._batch(rows, ends)

    def _ends(self) -> list[int]:
        """Return how many samples there are up to each of the tasks, that task included."""
        return list(accumulate(len(self.tasks[label].train_y) for label in self.labels))

    def _batch(self, rows: Tensor, ends: Sequence[int]) -> Batch:
        """Return samples by their place in all data, those of a task beside each other."""
        parts = []
        for label, end in zip(self.labels, ends, strict=True):
            task = self.tasks[label]
            first = end - len(task.train_y)
            own = rows[(rows >= first) & (rows < end)] - first
            parts.append((task.train_x[own], task.train_y[own], torch.full_like(own, label)))
        if len(parts) == 1:
            return parts[0]
        return _joined(parts)


class Recalling(TensorBatches):
    """Shuffled batches of one task, each with as many memories of earlier ones.

    As in Avalanche's `ReplayDataLoader`: memories come in random order, again and again.

    Args:
        tasks: The data.
        size: Samples of a task in a batch.
        replay: Avalanche's `ReplayPlugin`, which comes before this one and decides what is kept.
    """

    def __init__(self, tasks: Sequence[TaskData], size: int, replay: Any) -> None:
        super().__init__(tasks, size)
        self.replay = replay
        self.memories: Batch | None = None

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Take the data loader's place, and collect what is kept."""
        super().before_training_exp(strategy, **kwargs)
        kept = list(self.replay.storage_policy.buffer)
        if kept:
            samples, classes, labels = zip(*kept, strict=True)
            numbers = (torch.tensor([int(one) for one in column]) for column in (classes, labels))
            self.memories = (torch.stack(samples), *numbers)  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Batch]:
        if self.memories is None:
            yield from super().__iter__()
            return
        count = len(self.memories[1])
        order = torch.empty(0, dtype=torch.long)
        for batch in super().__iter__():
            while len(order) < self.size:
                order = torch.cat([order, torch.randperm(count)])
            rows, order = order[: self.size], order[self.size :]
            yield _joined([batch, tuple(column[rows] for column in self.memories)])  # type: ignore[list-item]


def _joined(batches: Sequence[Batch]) -> Batch:
    x, y, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    return x, y, labels
