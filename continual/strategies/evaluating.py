"""What is asked of `TaskMasks` in an Avalanche strategy beside training: answers before it.

Avalanche evaluates before a task is trained too: `eval_every` begins with the experience that is
about to be trained, forward transfer and early stopping need it. What has no network yet is then
answered by the one that a task would begin with now: new masks beside the weights that are taken, a
new head, and what earlier tasks share. Early stopping thus compares a task's networks with the one
that it begins with, and forward transfer is what the shared weights bring to a new task.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

from torch import Tensor, nn

from continual.avalanche_compat import avalanche
from continual.tasks.masks import TaskMasks
from continual.tasks.task import NO_TASK
from sparse_core.checks import InputError


class Beginner:
    """The network that a task would begin with now, made when it is first asked.

    It is begun in a copy: nothing of the model changes. Where no task has room any more, the latest
    task answers.

    Args:
        model: The network of all tasks.
    """

    def __init__(self, model: TaskMasks) -> None:
        self._model = model
        self._network: nn.Module | None = None
        self._full = False

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits `(batch, classes)` of `(batch, ...)`."""
        if self._network is None and not self._full:
            self._network = self._begin()
            self._full = self._network is None
        network = self._network
        return self._model.forward_single_task(x, NO_TASK) if network is None else network(x)

    def _begin(self) -> nn.Module | None:
        twin = copy.deepcopy(self._model, self._left_out())
        twin.engine.detach()
        twin.beginner = None
        if twin.label is not None:
            twin.prune()
            twin.end()
        try:
            twin.begin(max(twin.labels, default=-1) + 1)
        except InputError:
            return None
        return twin.model.eval()

    def _left_out(self) -> dict[int, Any]:
        """Say what stands in the copy for what must not, or cannot, be copied."""
        engine = self._model.engine
        optimizers = (engine.optimizer, self._model._optimizer)
        left_out: dict[int, Any] = {id(part): None for part in (*optimizers, self)}
        left_out |= {id(engine.observers): [], id(engine.on_step): []}
        for module in self._model.modules():  # a network may keep activations, which have a graph
            for value in vars(module).values():
                held = value.values() if isinstance(value, dict) else [value]
                left_out |= {
                    id(tensor): tensor.detach()
                    for tensor in held
                    if isinstance(tensor, Tensor) and not tensor.is_leaf
                }
        return left_out


class Evaluating(avalanche.core.SupervisedPlugin):  # type: ignore[name-defined, misc]
    """The part of `MaskIsolation` that has to do with answers."""

    _hinted = False

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        """Let the network that a task would begin with answer for tasks that were never trained."""
        model = strategy.model
        if isinstance(model, TaskMasks) and model.unseen == "evaluation":
            model.beginner = Beginner(model)

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        """Let it answer no longer."""
        if isinstance(strategy.model, TaskMasks):
            strategy.model.beginner = None

    def before_eval_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Warn once if samples have no task label, and the latest task answers for all."""
        model = strategy.model
        if hasattr(strategy.experience, "task_labels") or not isinstance(model, TaskMasks):
            return
        if self._hinted or model.infer is not None or len(model.labels) < 2:
            return
        self._hinted = True
        warnings.warn(
            f"experiences without task labels are evaluated with the network of task "
            f"{model.labels[-1]}, the latest: TaskMasks(..., infer='max-confidence') or 'entropy' "
            "asks the networks of all tasks",
            stacklevel=2,
        )

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Check that the head has an output for each class, before the loss is computed."""
        _check_classes(strategy)

    def after_eval_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Check the same."""
        _check_classes(strategy)


def _check_classes(strategy: Any) -> None:
    """Check classes that the loss is about to look up among the outputs."""
    output, classes, loss = strategy.mb_output, strategy.mb_y, strategy._criterion
    if not isinstance(strategy.model, TaskMasks) or not isinstance(output, Tensor):
        return
    if not isinstance(loss, (nn.CrossEntropyLoss, nn.NLLLoss)):
        return
    if output.dim() != 2 or classes.is_floating_point():
        return
    if classes.numel() and int(classes.max()) < output.shape[1]:
        return
    classes = classes[classes != loss.ignore_index]
    highest = int(classes.max()) if classes.numel() else 0
    if highest >= output.shape[1]:
        raise InputError(
            f"class {highest} in experience {strategy.experience.current_experience}: the head "
            f"{strategy.model.head!r} has {output.shape[1]} outputs; number the classes of each "
            "task from zero (class_ids_from_zero_in_each_exp=True), or give it an output for each "
            "class of all tasks"
        )
