"""What compiled passes bring in a task of continual learning; a part of `dst bench cl`.

Iterations of the second task, with `sparse_core.optim.Adam`: `bare` is the network with a cross
entropy, `naive` a whole iteration of Avalanche's `Naive` as `dst train cl` has it, with data,
plugins and metrics. `condensed` is compiled, `uncompiled` the same network without. The dense
network has torch's Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sweeps.bench.timing import Record

if TYPE_CHECKING:
    from torch import nn

    from continual import TaskMasks
    from continual.runs.data import TaskData

NETWORKS = (((64, 256, 256, 10), 64), ((784, 1024, 1024, 10), 256))
"""Widths, and samples of a batch."""

SPARSITY = 0.9
GROUPS = (1, 4)
BATCHES = 10
"""Iterations of an epoch, which is what is timed of Avalanche."""
RARELY = 10**9

Calls = dict[str, Callable[[], object]]
Turns = Callable[[Calls], dict[str, float]]


def measure(turns: Turns) -> list[Record]:
    """Time all contestants, and return what was found."""
    found = []
    for widths, batch in NETWORKS:
        tasks = _tasks(widths, batch)
        for case, contestant, parts in (("bare", _bare, 1), ("naive", _naive, BATCHES)):
            calls = {name: contestant(*made, tasks, batch) for name, made in _made(widths).items()}
            medians = {name: time / parts for name, time in turns(calls).items()}
            found += _records(case, widths, batch, medians)
    return found


def _made(widths: tuple[int, ...]) -> dict[str, tuple[Any, Any]]:
    """Return networks and their optimizers, by contestant."""
    import torch

    from sparse_core import optim

    dense = _network(widths)
    made: dict[str, tuple[Any, Any]] = {"dense": (dense, torch.optim.Adam(dense.parameters()))}
    for group in GROUPS:
        for name, compiled in (("condensed", True), ("uncompiled", False)):
            model = _masks(widths, group, compiled)
            made[f"{name}:{group}"] = model, optim.Adam(model.parameters())
    return made


def _network(widths: tuple[int, ...]) -> nn.Sequential:
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _masks(widths: tuple[int, ...], group: int, compiled: bool) -> TaskMasks:
    """Return a network that has learnt a task, and whose topology stands still."""
    from continual import TaskMasks
    from sparse_core.config import SparseConfig

    config = SparseConfig(
        method="rigl" if group == 1 else "srigl",
        sparsity=SPARSITY,
        backend="condensed",
        group=group,
        update_every=RARELY,
    )
    model = TaskMasks(_network(widths), config, compiled=compiled)
    model.begin(0)
    model.end()
    return model


def _tasks(widths: tuple[int, ...], batch: int) -> list[TaskData]:
    import torch

    from continual.runs.data import TaskData

    x, y = torch.randn(BATCHES * batch, widths[0]), torch.randint(0, widths[-1], (BATCHES * batch,))
    return [TaskData(x, y, x[:1], y[:1])] * 2


def _bare(model: Any, optimizer: Any, tasks: list[TaskData], batch: int) -> Callable[[], object]:
    from torch.nn.functional import cross_entropy

    from continual import TaskMasks

    x, y = tasks[0].train_x[:batch], tasks[0].train_y[:batch]
    if isinstance(model, TaskMasks):
        model.begin(1)
        model.attach(optimizer)
    model.train()

    def call() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return call


def _naive(model: Any, optimizer: Any, tasks: list[TaskData], batch: int) -> Callable[[], object]:
    from torch import nn

    from continual import MaskIsolation, TaskMasks
    from continual.avalanche_compat import avalanche
    from continual.runs.batches import make_batches
    from continual.runs.benchmarks import as_avalanche

    training = avalanche.training
    loader = make_batches(tasks, batch, (), joint=False)
    isolating = [MaskIsolation()] if isinstance(model, TaskMasks) else []
    strategy = training.Naive(
        model=model,
        optimizer=optimizer,
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=batch,
        plugins=[loader, *isolating],
        evaluator=training.plugins.EvaluationPlugin(loggers=[avalanche.logging.BaseLogger()]),
    )
    strategy.is_training = True
    model.train()
    strategy._before_training()
    strategy.experience = list(as_avalanche(tasks).train_stream)[1]
    strategy._before_training_exp()
    epoch: Callable[[], object] = strategy.training_epoch
    return epoch


def _records(
    case: str, widths: tuple[int, ...], batch: int, medians: Mapping[str, float]
) -> list[Record]:
    found = []
    for name, median in medians.items():
        contestant, _, group = name.partition(":")
        sparsity, n = 0.0 if contestant == "dense" else SPARSITY, int(group or 1)
        shape, ratio = (widths[0], widths[-1]), medians["dense"] / median
        found.append(Record(case, *shape, batch, sparsity, 1, n, contestant, median, ratio))
    return found
