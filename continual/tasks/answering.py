"""The logits of a sample: which task's network answers, and how a batch that mixes tasks does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from continual.tasks import validation
from continual.tasks.compiling import Compilable
from continual.tasks.earlier import frozen_output, shared_output
from continual.tasks.heads import check_head
from continual.tasks.inference import infer_tasks
from continual.tasks.isolation import readable
from continual.tasks.plan import Plan
from continual.tasks.task import NO_TASK
from sparse_core.checks import InputError


class Answering(Compilable):
    """A network of many tasks that answers for the task of each sample.

    Attributes:
        plan: How many tasks fit, and what would make more fit.
        unseen: What answers for labels that were never trained.
        beginner: Answers for them while a strategy evaluates.
        infer: The selector for samples without a label in evaluation.
    """

    plan: Plan
    unseen: str
    beginner: Callable[[Tensor], Tensor] | None
    infer: str | None
    _traced: bool

    def forward(self, x: Tensor, task_labels: Tensor | int | None = NO_TASK) -> Any:
        """Compute the logits of each sample with its task's network.

        Args:
            x: `(batch, ...)`.
            task_labels: `(batch,) int64`, or one label for all. Without any: the task in training,
                else the latest, or with `infer` and in evaluation each sample's likeliest. None:
                all tasks.

        Returns:
            `(batch, classes)`; with None, a dictionary of these by label.

        Raises:
            ValueError: If a label was never trained, and `unseen` does not let it be answered.
        """
        if task_labels is None:
            return self.forward_all_tasks(x)
        if self.infer is not None and not self.training and self.tasks:
            if isinstance(task_labels, int) and task_labels == NO_TASK:
                task_labels = infer_tasks(self, x, self.infer)
        if not isinstance(task_labels, Tensor):
            return self.forward_single_task(x, task_labels)
        labels = task_labels.to(x.device)
        if labels.is_floating_point():
            raise InputError(f"task_labels are {labels.dtype}: must be integers, floats round them")
        unique = _distinct(labels) or [NO_TASK]
        if len(unique) == 1:
            return self.forward_single_task(x, unique[0])
        rows = {label: (labels == label).nonzero().squeeze(1) for label in unique}
        if not self.hard and self.tasks and self.beginner is None:
            return self._forward_shared(x, rows)
        outputs = [self.forward_single_task(x[mine], label) for label, mine in rows.items()]
        return torch.cat(outputs)[torch.cat([*rows.values()]).argsort()]

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """Compute the logits of `(batch, ...)` with one task's network; see `forward`."""
        unknown = task_label != NO_TASK and str(task_label) not in self.tasks
        if unknown and self.beginner is not None:
            return self.beginner(x)
        label = self._answering(task_label)
        self._trace(x)
        if label is None or label == self.label:
            return self._watch(self._answer(x))
        if not self.hard:
            return self._forward_shared(x, {label: torch.arange(len(x), device=x.device)})
        task = self._task(label)
        parts = (self.model, self._places, self._masked_apart(), task, x)
        return frozen_output(*parts, readable(self._shared, task, self._before(task), self.share))

    def _forward_shared(self, x: Tensor, rows: Mapping[int, Tensor]) -> Tensor:
        """Compute the logits of tasks that differ in their heads only, `rows` of each label."""
        labels = torch.empty(len(x), dtype=torch.long, device=x.device)
        for label, mine in rows.items():
            answering = self._answering(label)
            assert answering is not None
            labels[mine] = answering
        self._trace(x)
        found = [label for label in _distinct(labels) if label != self.label]
        tasks = {label: self._task(label) for label in found}
        parts = (self.model, self._places, self._masked_apart(), tasks, labels, x)
        return self._watch(shared_output(*parts))

    def _trace(self, x: Tensor) -> None:
        """Check once that the head is what makes the logits."""
        if not self._traced and len(x):
            layers = self.engine.layers()
            check_head(self.model, layers, self.plan.head, x)
            self._traced = True

    def _answering(self, label: int) -> int | None:
        """Return the task that answers for a label; None: there is none yet."""
        if str(label) in self.tasks:
            return label
        if label != NO_TASK and self.unseen != "latest":
            raise InputError(validation.never_trained(label, self.labels))
        current = self.label
        return current if current is not None or not self.tasks else self.labels[-1]


def _distinct(labels: Tensor) -> list[int]:
    """Return the labels that occur, ascending."""
    if labels.numel():
        lowest, highest = map(int, labels.aminmax())
        if lowest == highest:
            return [lowest]
    found: Tensor = torch.unique(labels)
    return [int(label) for label in found.tolist()]
