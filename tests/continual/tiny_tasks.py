"""A tiny task-incremental benchmark, networks and a plain way to train on it."""

from __future__ import annotations

import torch
from torch import nn

from continual import MaskIsolation, TaskMasks
from continual.avalanche_compat import avalanche
from continual.runs.benchmarks import as_avalanche
from continual.runs.data import TaskData
from sparse_core.config import SparseConfig

FEATURES, CLASSES, TASKS = 12, 3, 3


def make_tasks(count: int = TASKS, samples: int = 48) -> list[TaskData]:
    generator = torch.Generator().manual_seed(7)
    tasks = []
    for _ in range(count):
        teacher = torch.randn(FEATURES, CLASSES, generator=generator)
        x = torch.randn(2 * samples, FEATURES, generator=generator)
        y = (x @ teacher).argmax(1)
        tasks.append(TaskData(x[:samples], y[:samples], x[samples:], y[samples:]))
    return tasks


def make_mlp(classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(FEATURES, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, classes)
    )


def make_config(method: str = "rigl", **changes: object) -> SparseConfig:
    moving = {} if method in ("static", "dense") else {"update_every": 2}
    return SparseConfig(method=method, **{"sparsity": 0.8} | moving | changes)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def make_strategy(model, optimizer="sgd", strategy=None, epochs=4, **options):
    silent = avalanche.training.plugins.EvaluationPlugin(loggers=[avalanche.logging.BaseLogger()])
    return (strategy or avalanche.training.Naive)(
        model=model,
        optimizer=OPTIMIZERS[optimizer](model.parameters()),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=16,
        train_epochs=epochs,
        eval_mb_size=64,
        **{"plugins": [MaskIsolation()], "evaluator": silent} | options,
    )


@torch.no_grad()
def logits(model: TaskMasks, label: int, task: TaskData) -> torch.Tensor:
    model.eval()
    return model(task.test_x.to(next(model.parameters()).dtype), label)


def make_benchmark(tasks: list[TaskData]):
    torch.manual_seed(0)
    return as_avalanche(tasks)
