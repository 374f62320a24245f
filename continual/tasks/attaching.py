"""A network of many tasks and the optimizer that trains them.

Isolation does not hang on it: what is read of finished tasks is kept apart from the parameters. But
masks move on an optimizer's steps, so it has to be known; and a new task brings new tensors, which
it has to train.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from continual.tasks import validation
from continual.tasks.groups import enter
from continual.tasks.store import TaskStore
from sparse_core.checks import at_least


class Attachable(TaskStore):
    """A holder of tasks that an optimizer trains."""

    _flowed = False  # whether the task in training got a gradient before a step was counted
    _stepped = False  # whether a step was counted, which a state that is loaded need not remember
    _began: Sequence[tuple[Tensor, Tensor]] = ()  # its own tensors, and what they were
    _optimizer: Optimizer | None = None

    def attach(self, optimizer: Optimizer, steps: int | None = None) -> None:
        """Move the topology on this optimizer's steps; call it when a task has begun.

        Finished tasks are isolated without it too. Under hard isolation the optimizer state of
        shared weights starts anew with a task, as the weights do; not with one that goes on from a
        checkpoint. `end` lets go of the optimizer.

        Args:
            optimizer: Trains the parameters of this module; see `expect`.
            steps: Length of the task's training in optimizer steps; None or 0: unknown.

        Raises:
            ValueError: If `steps` is negative. Nothing is changed then.
        """
        if steps is not None:
            at_least("steps", steps, 0)
        self._began = ()
        self.expect(optimizer)
        if self.hard and self.engine.phase == 0:
            for tensor in self._shared:
                optimizer.state.pop(tensor.weight, None)
        self.engine.attach(optimizer)
        if steps:
            self.engine.set_horizon(steps)

    def expect(self, optimizer: Optimizer) -> None:
        """Let an optimizer train what belongs to the tasks, until one ends; a new one's as well.

        A task's own tensor goes into the group in which the tensor of an earlier task lies that had
        its place, so all tasks have the rates and decays of the first. `attach` does this, and
        `MaskIsolation` before Avalanche would look for a group by itself.

        Args:
            optimizer: Trains the parameters of the network as it was, or of an earlier task.
        """
        for tensor in self.engine.tensors:
            tensor.adopt(optimizer)
        tasks = [self._task(label) for label in self.labels]
        own = [{place: task.tensor(place) for place in self._places} for task in tasks]
        enter(optimizer, self._places, own or [{place: place.tensor for place in self._places}])
        self._optimizer = optimizer

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_optimizer": None}  # of a copy nobody expects tasks

    def _has_begun(self) -> None:
        self._flowed = self._stepped = False
        own = [place.tensor for place in self._places if place.trained and not place.frozen]
        self._began = [(tensor, tensor.detach().clone()) for tensor in own]
        if self._optimizer is not None:
            self.expect(self._optimizer)

    def _check_trained(self, label: int) -> None:
        """Check that training did to the task in training what it was to do.

        Raises:
            RuntimeError: If it did not, for want of an attached optimizer.
        """
        if not self._unwatched:
            return
        if self.engine.updater is not None:
            raise RuntimeError(validation.never_moved(label, self.engine.config.method))
        if self._began and all(torch.equal(tensor, was) for tensor, was in self._began):
            raise RuntimeError(validation.never_stepped(label))

    def _has_finished(self) -> None:
        self.engine.detach()
        self._optimizer, self._began = None, ()

    @property
    def _unwatched(self) -> bool:
        """Whether the task in training was trained, by no optimizer that it knows."""
        return self._flowed and not self._stepped and self.engine.phase == 0

    def _watch(self, output: Tensor) -> Tensor:
        """Notice if a gradient flows back from the output of the task in training."""
        if self.training and self.engine.phase == 0:
            self._listen(output)
        return output

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _listen(self, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(self._note_flow)  # type: ignore[no-untyped-call]

    def _note_step(self, steps: int) -> None:
        self._stepped = True

    def _note_flow(self, gradient: Tensor) -> None:
        self._flowed = True
