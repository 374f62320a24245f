"""What a network of many tasks knows of them: which there are, and what each has and reads."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from continual.avalanche_compat import avalanche
from continual.tasks import validation
from continual.tasks.isolation import lent
from continual.tasks.task import NO_TASK, TaskState, TensorPlace, label_of
from sparse_core.checks import InputError
from sparse_core.engine import Engine
from sparse_core.weights.tensor import SparseTensor


class TaskStore(avalanche.models.MultiTaskModule):  # type: ignore[name-defined, misc]
    """A multi-task module that has an engine and tasks.

    Attributes:
        engine: Moves the topology of the task in training.
        isolation: `hard` or `none`.
        share: What a task may do with the weights of earlier ones.
        reserve: The fraction of each hidden layer's neurons that a task keeps to itself; None:
            none.
        tasks: The tasks by label.
        current: `() int64`, the index of the task in training, or `NO_TASK`.
        fresh: What is each task's own, as it is when a task begins.
        rules: Isolation and sharing as numbers, for checkpoints.
    """

    current: Tensor
    engine: Engine
    isolation: str
    share: str
    reserve: float | None
    tasks: nn.ModuleDict
    fresh: TaskState
    rules: Tensor
    known_train_tasks_labels: set[int]
    _shared: list[SparseTensor]
    _places: list[TensorPlace]

    def check(self, labels: Iterable[int]) -> list[int]:
        """Check that tasks can be trained from here on, all that are named; nothing is changed.

        Args:
            labels: Their labels.

        Returns:
            The labels, as Python's integers.

        Raises:
            ValueError: If one is no label, or its task has ended and is isolated; or if there are
                several that are to be isolated.
        """
        checked = [label_of(label) for label in labels]
        if self.hard and len(checked) > 1:
            raise InputError(
                f"tasks {checked} in one experience: isolation='hard' learns one task at a time"
            )
        for label in checked:
            if self.hard and label != self.label and str(label) in self.tasks:
                raise InputError(
                    f"task {label} has ended: isolation='hard' never changes it, isolation='none' "
                    "does (or does each experience lack a task label of its own?)"
                )
        return checked

    @property
    def hard(self) -> bool:
        """Whether tasks are isolated."""
        return self.isolation == "hard"

    @property
    def label(self) -> int | None:
        """The label of the task in training."""
        index = int(self.current)
        if index == NO_TASK:
            return None
        latest_first = reversed(self.tasks._modules.items())
        return next(int(label) for label, task in latest_first if int(task.index) == index)  # type: ignore[arg-type]

    @property
    def labels(self) -> list[int]:
        """The labels of all tasks, in the order in which they began."""
        return sorted(map(int, self.tasks), key=lambda label: int(self._task(label).index))

    def masks(self, label: int) -> dict[str, Tensor]:
        """Return a task's masks, bool, in each weight's shape, by the weight's name in the network.

        Raises:
            ValueError: If there is no such task.
        """
        if str(label) not in self.tasks:
            raise InputError(validation.never_trained(label, self.labels))
        task = self._task(label)
        return {
            tensor.name: task.masks.get(tensor.name, tensor.shape)
            if tensor.name in task.masks
            else tensor.active().reshape(tensor.shape)
            for tensor in self.engine.tensors
        }

    def lent(self, label: int) -> dict[str, Tensor]:
        """Return what a task reads beside its masks, weights of earlier tasks, as `masks` does."""
        earlier = self._before(self._task(label))
        found = {tensor.name: lent(tensor, earlier, self.share) for tensor in self._shared}
        return {name: mask for name, mask in found.items() if mask is not None}

    def _task(self, label: int) -> TaskState:
        task = self.tasks[str(label)]
        assert isinstance(task, TaskState)
        return task

    def _bind(self, task: TaskState) -> None:
        task.bind(self._places)
        self.engine.refresh()

    def _new_tensors(self) -> dict[TensorPlace, Tensor]:
        return {place: place.like(self.fresh.tensor(place)) for place in self._places}

    def _restore(self) -> None:
        for tensor in self._shared:
            tensor.restore()
        for task in map(self._task, self.labels):
            task.restore()

    def _finished(self) -> list[TaskState]:
        return [task for task in map(self._task, self.labels) if task.stored]

    def _before(self, task: TaskState) -> list[TaskState]:
        return [other for other in self._finished() if other.index < task.index]

    def _masked_apart(self) -> list[SparseTensor]:
        """List the tensors of which each task has its own mask: without isolation only the head."""
        return [t for t in self.engine.tensors if self.hard or t not in self._shared]
