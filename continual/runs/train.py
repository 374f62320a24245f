"""One continual-learning run: a spec in, a result out.

Training goes through Avalanche's `Naive` strategy; its data loader, which collects samples one by
one, is replaced by one that cuts batches from tensors, and accuracies are measured directly.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from continual.avalanche_compat import avalanche
from continual.runs.account import Model, account, engines_of
from continual.runs.batches import make_batches
from continual.runs.benchmarks import as_avalanche, load_tasks
from continual.runs.build import make_model, make_optimizer
from continual.runs.calls import callable_with
from continual.runs.catalogue import SCENARIOS
from continual.runs.data import TaskData
from continual.runs.metrics import Matrix, average_accuracy, backward_transfer, forgetting
from continual.runs.own_metrics import own_metrics
from continual.runs.protecting import TASK_LABELS, protection, samples_kept
from continual.runs.resuming import Saver, go_on, outside
from continual.runs.spec import CLSpec
from continual.strategies.plugins import MaskIsolation
from continual.tasks.inference import infer_tasks
from continual.tasks.masks import TaskMasks
from sparse_core.ahead import import_ahead
from sparse_core.checkpoints import Checkpoints
from sparse_core.engine import Engine
from sparse_core.metrics.tally import UpdateTally, weights
from sparse_core.pickling import set_streams, streams
from sparse_core.tickets import Legacy, Round, other_seed

Progress = Callable[[float, Mapping[str, float]], None]

EVAL_BATCH = 500
"""Test images that are evaluated together."""


def ahead() -> None:
    """Import what runs import as they go, for a process that forks them."""
    import_ahead("sklearn.datasets", "sklearn.model_selection")


def run(
    spec: CLSpec, out: Path, progress: Progress, checkpoints: Checkpoints | None = None
) -> dict[str, Any]:
    """Learn the tasks one after the other, on one thread, and measure what is left of each.

    A lottery ticket learns the whole sequence in each of its rounds, from the same random numbers.
    The result is the last round's.

    Args:
        spec: The run.
        out: A folder; nothing is written but what the result already says.
        progress: Called with the fraction done and the average accuracy so far.
        checkpoints: Where to write how far it is, and to go on from; None: nowhere.

    Returns:
        `score`, `curve`, `sparsity`, `layers`, `accuracy_matrix`, `forgetting` and
        `backward_transfer` (not of tasks learnt at once, whose accuracies are all from the end),
        `capacity`, `capacity_used`, `overlap`, `flops` and `trained_weights` (see
        `continual.runs.account`), `task_labels`, when tasks are told, `samples_kept` of other
        tasks while one is learnt, `updates` and `still` (see `sparse_core.metrics.tally`), all as
        JSON can hold them. With a selector also `selector`, `accuracy_without_labels` and
        `tasks_found`, at the end of training; with metrics of the user's own `measured`; with
        rounds `rounds` (`sparsity`, `score` and `curve` of each).

    Raises:
        InputError: If the tasks do not fit into the network, or the data is missing.
    """
    torch.set_num_threads(1)
    for metric in spec.metrics:
        callable_with("metrics", metric, None, None, None)
    left: Legacy | None = None
    results: list[dict[str, Any]] = []
    tasks = _tasks(spec)
    begin = streams()
    experiences = list(as_avalanche(tasks).train_stream)
    others = outside(progress, tasks, experiences)
    state = None if checkpoints is None else checkpoints.load({**others, "saver": None})
    if state is not None:
        results = state["results"]
    while len(results) <= spec.rounds:
        index = len(results)
        if state is None:
            set_streams(begin)
            told = _part(progress, index, spec.rounds + 1)
            learning = _Learning(spec, tasks, told, left)
        else:
            learning = state["learning"]
        if checkpoints is not None:
            kept = {"learning": learning, "results": results}
            learning.save_by(Saver(checkpoints, kept, others))
        learning.learn(experiences, None if state is None else state["streams"])
        state = None
        result, left = learning.end(index + 1)
        results.append(result)
    if not spec.rounds:
        return results[-1]
    each = [{key: r[key] for key in ("sparsity", "score", "curve")} for r in results]
    return results[-1] | {"rounds": each}


def _part(progress: Progress, index: int, parts: int) -> Progress:
    """Return the progress of one of several equal parts."""
    return lambda done, numbers: progress((index + done) / parts, numbers)


def _tasks(spec: CLSpec) -> Sequence[TaskData]:
    """Seed the random streams and load the data of all tasks."""
    _seed_streams(spec.seed)
    return load_tasks(
        spec.benchmark,
        spec.tasks,
        spec.seed,
        samples=spec.samples,
        dataset=spec.dataset,
        folder=spec.folder,
        size=spec.image_size,
    )


def _seed_streams(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class _Learning:
    """One pass through the sequence.

    Args:
        spec: The run.
        tasks: The data.
        progress: As that of `run`.
        before: What the last round left; None: there was none.
    """

    def __init__(
        self, spec: CLSpec, tasks: Sequence[TaskData], progress: Progress, before: Legacy | None
    ) -> None:
        self.spec, self.tasks = spec, tasks
        self.model = _model(spec, tasks)
        self.round = Round(self.model.engine, before) if spec.rounds else None
        self.matrix: list[list[float]] = []
        self.joint = spec.baseline_in_force.joint
        protecting = protection(spec)
        self.loader = make_batches(tasks, spec.batch_size, protecting, joint=self.joint)
        self.report = _Report(
            progress, spec.epochs * (1 if self.joint else spec.tasks), self.matrix
        )
        isolating = [MaskIsolation()] if isinstance(self.model, TaskMasks) else []
        training = avalanche.training
        # Avalanche makes a loader first, which ours replaces; of all tasks it takes no small batch.
        size = max(spec.batch_size, len(tasks)) if self.joint else spec.batch_size
        self.strategy = (training.JointTraining if self.joint else training.Naive)(
            model=self.model,
            optimizer=make_optimizer(spec, self.model.parameters()),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=size,
            train_epochs=spec.epochs,
            plugins=[*protecting, self.loader, *isolating, _Rates(spec), self.report],
            evaluator=training.plugins.EvaluationPlugin(loggers=[avalanche.logging.BaseLogger()]),
        )
        self.engines = engines_of(self.model)
        self.moves = UpdateTally(self.engines)

    def save_by(self, saver: Saver) -> None:
        """Write checkpoints from now on."""
        plugins = self.strategy.plugins
        plugins[:] = [one for one in plugins if one is not None] + [saver]

    def learn(self, experiences: Sequence[Any], drawn: Mapping[str, Any] | None) -> None:
        """Learn the tasks that are left.

        Args:
            experiences: All tasks.
            drawn: The random streams of the checkpoint that this was read from; None: it has not
                begun.
        """
        if drawn is not None:
            set_streams(drawn)
            done = self.report.done - len(self.matrix) * self.spec.epochs
            go_on(self.strategy, self.loader, self.spec.epochs, done)
            self._measure()
        while len(self.matrix) < len(experiences):
            lesson = experiences if self.joint else experiences[len(self.matrix)]
            self.strategy.train(lesson, eval_streams=[])
            self._measure()

    def _measure(self) -> None:
        index = len(self.matrix)
        self.moves.end(index)
        seen = len(self.tasks) if self.joint else index + 1
        row = [accuracy(self.model, label, self.tasks[label]) for label in range(seen)]
        self.matrix += [row[:size] for size in range(1, seen + 1)] if self.joint else [row]

    @property
    def _seen(self) -> list[int]:
        """After how many tasks there is something to measure."""
        return list(range(len(self.tasks) if self.joint else 1, len(self.tasks) + 1))

    def end(self, following: int) -> tuple[dict[str, Any], Legacy | None]:
        """Return the result, and what is left to the round with this number."""
        spec, model, matrix = self.spec, self.model, self.matrix
        inferred = _without_labels(spec, model, self.tasks) if spec.selector else {}
        left = None
        if self.round is not None and following <= spec.rounds:
            left = self.round.end(following, self._draw)
        result = {
            "score": average_accuracy(matrix),
            "curve": [[seen, average_accuracy(matrix[:seen])] for seen in self._seen],
            **weights(self.engines),
            "accuracy_matrix": matrix,
            **_over_time(matrix, self._seen),
            **account(model, self.tasks[0].train_x.shape[1:]),
            "task_labels": TASK_LABELS,
            "samples_kept": samples_kept(spec, self.tasks),
            **self.moves.result(),
            **inferred,
            **own_metrics(spec.metrics, model, self.tasks, matrix),
        }
        return result, left

    def _draw(self) -> Engine:
        """Build the network with other weights."""
        before, seed = streams(), other_seed(self.spec.seed)
        _seed_streams(seed)
        model = _model(dataclasses.replace(self.spec, seed=seed), self.tasks)
        set_streams(before)
        assert isinstance(model, TaskMasks)
        return model.engine


def _model(spec: CLSpec, tasks: Sequence[TaskData]) -> Model:
    return make_model(spec, max(tasks, key=lambda task: task.classes))


def _over_time(matrix: Matrix, seen: Sequence[int]) -> dict[str, float]:
    """Return what later tasks did to earlier ones; nothing of tasks that were learnt at once."""
    if len(seen) < len(matrix):
        return {}
    return {"forgetting": forgetting(matrix), "backward_transfer": backward_transfer(matrix)}


@torch.no_grad()
def accuracy(model: Model, label: int, task: TaskData) -> float:
    """Return the fraction of the test set that the task's network gets right."""
    model.eval()
    right = [model(x, label).argmax(1) == y for x, y in _test_batches(task)]
    return float(torch.cat(right).float().mean())


@torch.no_grad()
def _without_labels(spec: CLSpec, model: Model, tasks: Sequence[TaskData]) -> dict[str, Any]:
    """Measure accuracy where the task of each test image is inferred.

    Where tasks have classes of their own (`split`, and benchmarks of the user's own) an image is
    only right in its own task.
    """
    assert spec.selector is not None
    model.eval()
    own_classes = spec.parts is None or SCENARIOS[spec.parts[0]].own_classes
    right, found = [], []
    for label, task in enumerate(tasks):
        inferred, correct = [], []
        for x, y in _test_batches(task):
            inferred.append(infer_tasks(model, x, spec.selector))
            correct.append(model(x, inferred[-1]).argmax(1) == y)
        is_right, in_place = torch.cat(correct), torch.cat(inferred) == label
        right.append(float((is_right & in_place if own_classes else is_right).float().mean()))
        found.append(float(in_place.float().mean()))
    return {
        "selector": spec.selector,
        "accuracy_without_labels": sum(right) / len(right),
        "tasks_found": sum(found) / len(found),
    }


def _test_batches(task: TaskData) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut a test set into pieces whose activations fit into little memory."""
    yield from zip(
        torch.split(task.test_x, EVAL_BATCH), torch.split(task.test_y, EVAL_BATCH), strict=True
    )


class _Rates(avalanche.core.SupervisedPlugin):  # type: ignore[name-defined, misc]
    """Lets the learning rate fall within each task."""

    def __init__(self, spec: CLSpec) -> None:
        super().__init__()
        self.spec = spec
        self.done = 0

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Set the rate of an epoch."""
        spec, epoch = self.spec, self.done % self.spec.epochs
        if not spec.lr_steps:
            return
        falls = sum(epoch >= at * spec.epochs for at in spec.lr_steps)
        for group in strategy.optimizer.param_groups:
            group["lr"] = spec.lr * spec.lr_factor**falls

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Count an epoch."""
        self.done += 1


class _Report(avalanche.core.SupervisedPlugin):  # type: ignore[name-defined, misc]
    """Tells how far training is."""

    def __init__(self, progress: Progress, epochs: int, matrix: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.progress = progress
        self.epochs = epochs
        self.done = 0
        self.matrix = matrix

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Count an epoch."""
        self.done += 1
        numbers = {"accuracy": average_accuracy(self.matrix)} if self.matrix else {}
        self.progress(self.done / self.epochs, numbers)
