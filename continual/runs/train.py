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
from continual.runs.benchmarks import as_avalanche, load_tasks
from continual.runs.build import make_model, make_optimizer
from continual.runs.calls import callable_with
from continual.runs.catalogue import SCENARIOS
from continual.runs.data import TaskData
from continual.runs.metrics import average_accuracy, backward_transfer, forgetting
from continual.runs.own_metrics import own_metrics
from continual.runs.spec import CLSpec
from continual.strategies.plugins import MaskIsolation
from continual.tasks.inference import infer_tasks
from continual.tasks.masks import TaskMasks
from continual.tasks.overlap import capacity_used, masks_of_shared, overlaps, task_flops
from sparse_core.ahead import import_ahead
from sparse_core.metrics.tally import UpdateTally, weights
from sparse_core.tickets import Legacy, Round

Progress = Callable[[float, Mapping[str, float]], None]

EVAL_BATCH = 500
"""Test images that are evaluated together."""


def ahead() -> None:
    """Import what runs import as they go, for a process that forks them."""
    import_ahead("sklearn.datasets", "sklearn.model_selection")


def run(spec: CLSpec, out: Path, progress: Progress) -> dict[str, Any]:
    """Learn the tasks one after the other, on one thread, and measure what is left of each.

    A lottery ticket learns the whole sequence in each of its rounds, from the same random numbers.
    The result is the last round's.

    Args:
        spec: The run.
        out: A folder; nothing is written but what the result already says.
        progress: Called with the fraction done and the average accuracy so far.

    Returns:
        `score`, `curve`, `sparsity`, `layers`, `accuracy_matrix`, `forgetting`,
        `backward_transfer`, `capacity` of each layer, `capacity_used` of all, `overlap` of each two
        tasks' masks, `flops` of a forward pass, `updates` and `still` (see
        `sparse_core.metrics.tally`), all as JSON can hold them. With a selector also `selector`,
        `accuracy_without_labels` and `tasks_found`, at the end of training; with metrics of the
        user's own `measured`; with rounds `rounds` (`sparsity`, `score` and `curve` of each).

    Raises:
        InputError: If the tasks do not fit into the network, or the data is missing.
    """
    torch.set_num_threads(1)
    for metric in spec.metrics:
        callable_with("metrics", metric, None, None, None)
    left: Legacy | None = None
    results = []
    for index in range(spec.rounds + 1):
        result, left = _learn(spec, _part(progress, index, spec.rounds + 1), left, index + 1)
        results.append(result)
    if not spec.rounds:
        return results[-1]
    each = [{key: r[key] for key in ("sparsity", "score", "curve")} for r in results]
    return results[-1] | {"rounds": each}


def _part(progress: Progress, index: int, parts: int) -> Progress:
    """Return the progress of one of several equal parts."""
    return lambda done, numbers: progress((index + done) / parts, numbers)


def _learn(
    spec: CLSpec, progress: Progress, before: Legacy | None, following: int
) -> tuple[dict[str, Any], Legacy | None]:
    """Learn the sequence once.

    Args:
        spec: The run.
        progress: As that of `run`.
        before: What the last round left; None: there was none.
        following: Number of the round that follows.

    Returns:
        The result, and what is left to the next round.
    """
    random.seed(spec.seed)
    np.random.seed(spec.seed % 2**32)
    torch.manual_seed(spec.seed)
    tasks = load_tasks(
        spec.benchmark,
        spec.tasks,
        spec.seed,
        samples=spec.samples,
        dataset=spec.dataset,
        folder=spec.folder,
        size=spec.image_size,
    )
    model = make_model(spec, max(tasks, key=lambda task: task.classes))
    round_ = Round(model.engine, before) if spec.rounds else None
    matrix: list[list[float]] = []
    loader = _TensorBatches(tasks, spec.batch_size)
    report = _Report(progress, spec, matrix)
    strategy = avalanche.training.Naive(
        model=model,
        optimizer=make_optimizer(spec, model.parameters()),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=spec.batch_size,
        train_epochs=spec.epochs,
        plugins=[loader, MaskIsolation(), report],
        evaluator=avalanche.training.plugins.EvaluationPlugin(
            loggers=[avalanche.logging.BaseLogger()]
        ),
    )
    engines = {"network": model.engine}
    moves = UpdateTally(engines)
    for index, experience in enumerate(as_avalanche(tasks).train_stream):
        strategy.train(experience, eval_streams=[])
        moves.end(index)
        matrix.append([accuracy(model, label, tasks[label]) for label in range(index + 1)])
    masks = [masks_of_shared(model, label) for label in model.labels]
    inferred = _without_labels(spec, model, tasks) if spec.selector else {}
    left = round_.end(following) if round_ is not None and following <= spec.rounds else None
    result = {
        "score": average_accuracy(matrix),
        "curve": [[seen, average_accuracy(matrix[:seen])] for seen in range(1, spec.tasks + 1)],
        **weights(engines),
        "accuracy_matrix": matrix,
        "forgetting": forgetting(matrix),
        "backward_transfer": backward_transfer(matrix),
        "capacity": [dataclasses.asdict(layer) for layer in model.capacity()],
        "capacity_used": capacity_used(masks),
        "overlap": overlaps(masks),
        "flops": task_flops(model, tasks[0].train_x.shape[1:]),
        **moves.result(),
        **inferred,
        **own_metrics(spec.metrics, model, tasks, matrix),
    }
    return result, left


@torch.no_grad()
def accuracy(model: TaskMasks, label: int, task: TaskData) -> float:
    """Return the fraction of the test set that the task's network gets right."""
    model.eval()
    right = [model(x, label).argmax(1) == y for x, y in _test_batches(task)]
    return float(torch.cat(right).float().mean())


@torch.no_grad()
def _without_labels(spec: CLSpec, model: TaskMasks, tasks: Sequence[TaskData]) -> dict[str, Any]:
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


class _TensorBatches(avalanche.core.SupervisedPlugin):  # type: ignore[name-defined, misc]
    """Shuffled batches of one task, in place of the strategy's data loader."""

    def __init__(self, tasks: Sequence[TaskData], size: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.size = size
        self.label = 0

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Take the data loader's place."""
        self.label = strategy.experience.task_label
        strategy.dataloader = self

    def __len__(self) -> int:
        return -(-len(self.tasks[self.label].train_y) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        task = self.tasks[self.label]
        for rows in torch.split(torch.randperm(len(task.train_y)), self.size):
            yield task.train_x[rows], task.train_y[rows], torch.full_like(rows, self.label)


class _Report(avalanche.core.SupervisedPlugin):  # type: ignore[name-defined, misc]
    """Tells how far training is."""

    def __init__(self, progress: Progress, spec: CLSpec, matrix: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.progress = progress
        self.epochs = spec.tasks * spec.epochs
        self.done = 0
        self.matrix = matrix

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Count an epoch."""
        self.done += 1
        numbers = {"accuracy": average_accuracy(self.matrix)} if self.matrix else {}
        self.progress(self.done / self.epochs, numbers)
