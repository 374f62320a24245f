"""Accuracy matrices of five tasks, one network after another and with isolated masks."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import nn

from continual import TaskMasks
from continual.runs.benchmarks import load_tasks
from continual.runs.data import TaskData
from handbook.pictures.style import figure, save
from sparse_core import SparseConfig

TASKS, EPOCHS, BATCH, WIDTH = 5, 10, 32, 100

Matrix = list[list[float]]


def matrix(config: SparseConfig, isolation: str) -> Matrix:
    """Learn permuted digits one after another; return the accuracy on each task seen after each."""
    torch.manual_seed(0)
    tasks = load_tasks("permuted-digits", tasks=TASKS)
    net = nn.Sequential(
        nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)
    )
    model = TaskMasks(net, config, isolation=isolation)
    rows: Matrix = []
    for label, task in enumerate(tasks):
        learn(model, label, task)
        rows.append([accuracy(model, seen, tasks[seen]) for seen in range(label + 1)])
    return rows


def learn(model: TaskMasks, label: int, task: TaskData) -> None:
    """Train one task from its beginning to its end."""
    model.train()
    model.begin(label)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.engine.attach(optimizer)
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(task.train_x)), BATCH):
            labels = torch.full((len(batch),), label)
            loss = nn.functional.cross_entropy(
                model(task.train_x[batch], labels), task.train_y[batch]
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    model.end()


def accuracy(model: TaskMasks, label: int, task: TaskData) -> float:
    """Return the fraction of a task's test set that is classified right."""
    model.eval()
    with torch.no_grad():
        logits = model(task.test_x, torch.full((len(task.test_x),), label))
    return float((logits.argmax(1) == task.test_y).float().mean())


def draw(folder: Path) -> None:
    """Draw `accuracy_matrix.svg`."""
    drawn = figure(7.4, 3.3)
    left, right = drawn.subplots(1, 2)
    dense = SparseConfig(method="dense", sparsity=0.0)
    sparse = SparseConfig(method="rigl", sparsity=0.9, update_every=20)
    panel(left, matrix(dense, "none"), "dense, one network")
    panel(right, matrix(sparse, "hard"), "RigL, 90 %, masks of their own")
    save(drawn, folder / "accuracy_matrix.svg")


def panel(axes: Axes, rows: Matrix, title: str) -> None:
    """Draw one matrix with its numbers, in percent."""
    for after, row in enumerate(rows):
        for task, value in enumerate(row):
            axes.text(task, after, f"{100 * value:.0f}", ha="center", va="center", color="white")
    filled = [[*row, *[float("nan")] * (TASKS - len(row))] for row in rows]
    axes.imshow(filled, cmap="viridis_r", vmin=0, vmax=1.3)
    ticks = range(TASKS)
    axes.set(
        title=title, xlabel="accuracy (%) on task", ylabel="after task", xticks=ticks, yticks=ticks
    )
