"""What a run of continual learning can name: scenarios, benchmarks, networks, optimizers.

Wherever one of these names stands, `package.module:NAME` of the user's own can stand as well.
Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from continual.runs.datasets import DATASETS


@dataclass(frozen=True)
class Scenario:
    """A way to make a sequence of tasks from one data set.

    Attributes:
        summary: What tells the tasks apart, in one line.
        make: Import string of `(images, tasks, seed, samples) -> list[TaskData]`.
        own_classes: Whether each task has classes of its own; else all have all.
        grey: Whether it needs grey, square images.
    """

    summary: str
    make: str
    own_classes: bool = False
    grey: bool = False


SCENARIOS: Mapping[str, Scenario] = {
    "split": Scenario(
        "each task has its own classes", "continual.runs.benchmarks:split", own_classes=True
    ),
    "permuted": Scenario(
        "all classes, the pixels in an order of the task's own",
        "continual.runs.benchmarks:permuted",
    ),
    "rotated": Scenario(
        "all classes, the images at an angle of the task's own",
        "continual.runs.benchmarks:rotated",
        grey=True,
    ),
}

BENCHMARKS: Mapping[str, tuple[str, str]] = {
    f"{scenario}-{dataset}": (scenario, dataset)
    for scenario, way in SCENARIOS.items()
    for dataset, images in DATASETS.items()
    if images.grey or not way.grey
}
"""Scenario and data set of each benchmark by its name."""


@dataclass(frozen=True)
class Network:
    """A network that learns tasks.

    Attributes:
        summary: What it is, in one line.
        make: Import string of the function that builds it.
    """

    summary: str
    make: str


NETWORKS: Mapping[str, Network] = {
    "mlp": Network("hidden layers with ReLU, then the head", "continual.runs.networks:mlp"),
    "cnn": Network(
        "blocks of two 3x3 convolutions and a pooling, then as mlp", "continual.runs.networks:cnn"
    ),
}


@dataclass(frozen=True)
class Optimizer:
    """An optimizer with its settings.

    Attributes:
        make: Import string of `(parameters, lr=..., **settings) -> torch.optim.Optimizer`.
        settings: Its keyword arguments, but for the learning rate.
    """

    make: str
    settings: Mapping[str, Any] = field(default_factory=dict)


OPTIMIZERS: Mapping[str, Optimizer] = {
    "sgd": Optimizer("torch.optim:SGD", {"momentum": 0.9}),
    "adam": Optimizer("torch.optim:Adam"),
    "adamw": Optimizer("torch.optim:AdamW", {"weight_decay": 0.01}),
}


def splits(classes: int) -> list[int]:
    """Return into how many tasks of as many classes each, at least two, classes can be split."""
    return [tasks for tasks in range(1, classes // 2 + 1) if classes % tasks == 0]
