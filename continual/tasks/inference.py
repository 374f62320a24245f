"""Which task a sample belongs to, where nobody says: ask every task's network, believe the surest.

    max-confidence   the task whose network gives one class the highest probability
    entropy          the task whose network's probabilities have the least entropy

Both compare networks that were never trained to be compared; accuracy with inferred tasks is
therefore another figure than accuracy with given ones, and has to be reported as such.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from continual.tasks.rules import SELECTORS
from sparse_core.checks import InputError, one_of


class KnowsTasks(Protocol):
    """A network that computes the logits of each of its tasks; `TaskMasks` is one."""

    @property
    def labels(self) -> list[int]:
        """The labels of its tasks."""

    def __call__(self, x: Tensor, task_labels: int) -> Tensor:
        """Compute the logits of one task."""


@torch.no_grad()
def infer_tasks(model: KnowsTasks, x: Tensor, selector: str = "max-confidence") -> Tensor:
    """Guess the task of each sample.

    Args:
        model: Has learnt at least one task.
        x: `(batch, ...)`.
        selector: One of `SELECTORS`.

    Returns:
        `(batch,) int64` task labels; among equally sure tasks the first.

    Raises:
        ValueError: If there is no such selector, or no task yet.
    """
    one_of("selector", selector, SELECTORS)
    if not model.labels:
        raise InputError("no task was trained: there is none to infer")
    sureness = []
    for label in model.labels:
        log_p = model(x, label).log_softmax(1)
        if selector == "entropy":
            sureness.append((log_p.exp() * log_p).sum(1))
        else:
            sureness.append(log_p.amax(1))
    surest = torch.stack(sureness).argmax(0)
    return torch.tensor(model.labels, device=x.device)[surest]
