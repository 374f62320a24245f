"""What a run of continual learning can name: scenarios, benchmarks, networks, optimizers.

Wherever one of these names stands, `package.module:NAME` of the user's own can stand as well.
Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from continual.runs.datasets import ALLOWED, DATASETS, FOLDER, Dataset
from sparse_core.checks import InputError, one_of
from sparse_core.naming import check_name


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


def benchmarks(
    scenarios: Mapping[str, Scenario], datasets: Mapping[str, Dataset]
) -> dict[str, tuple[str, str]]:
    """Return the names of all benchmarks, each with its scenario and its data set."""
    return {
        f"{scenario}-{dataset}": (scenario, dataset)
        for scenario, way in scenarios.items()
        for dataset, images in datasets.items()
        if images.grey or not way.grey
    }


BENCHMARKS: Mapping[str, tuple[str, str]] = benchmarks(SCENARIOS, DATASETS)


@dataclass(frozen=True)
class Network:
    """A network that learns tasks.

    Attributes:
        summary: What it is, in one line.
        make: Import string of the function that builds it.
        widths: The fields that say how wide it is.
    """

    summary: str
    make: str
    widths: tuple[str, ...]


NETWORKS: Mapping[str, Network] = {
    "mlp": Network(
        "hidden layers with ReLU, then the head", "continual.runs.networks:mlp", ("hidden",)
    ),
    "cnn": Network(
        "blocks of two 3x3 convolutions and a pooling, then as mlp",
        "continual.runs.networks:cnn",
        ("hidden", "channels"),
    ),
    "resnet18": Network(
        "ResNet-18 for small images: stages of two residual blocks, then the head",
        "continual.runs.networks:resnet18",
        ("channels",),
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


def parts_of(benchmark: str, dataset: str | None) -> tuple[str, str] | None:
    """Return scenario and data set of a benchmark; None: it is a function of the user's own.

    Args:
        benchmark: A benchmark, a scenario, or `package.module:NAME`.
        dataset: Of a scenario: one of `DATASETS`, a path, or `package.module:NAME`.

    Raises:
        InputError: If there is no such benchmark, or it needs a data set, or has one already.
    """
    check_name("benchmark", benchmark, {**BENCHMARKS, **SCENARIOS})
    if benchmark in SCENARIOS:
        if not dataset:
            raise InputError(
                f"dataset={dataset!r}: benchmark {benchmark!r} needs {ALLOWED}",
                field="dataset",
            )
        if dataset in DATASETS and f"{benchmark}-{dataset}" not in BENCHMARKS:
            raise InputError(
                f"dataset={dataset!r}: benchmark {benchmark!r} needs grey images", field="dataset"
            )
        return benchmark, dataset
    if dataset is not None:
        raise InputError(
            f"dataset={dataset!r}: is for benchmarks {', '.join(SCENARIOS)}, {benchmark!r} has its "
            "own",
            field="dataset",
        )
    return BENCHMARKS.get(benchmark)


def check_benchmark(benchmark: str, dataset: str | None, folder: str | None, tasks: int) -> None:
    """Check a benchmark with what belongs to it; nothing is loaded.

    Raises:
        InputError: Naming the field, its value and what is allowed.
    """
    parts = parts_of(benchmark, dataset)
    known = DATASETS.get(parts[1]) if parts else None
    if parts and known and known.classes is not None and SCENARIOS[parts[0]].own_classes:
        one_of("tasks", tasks, splits(known.classes))
    needs_folder = parts is not None and parts[1] == FOLDER
    if needs_folder and not folder:
        raise InputError(f"folder={folder!r}: must name a folder of images", field="folder")
    if not needs_folder and folder is not None:
        raise InputError(f"folder={folder!r}: is for benchmarks of a folder only", field="folder")


def splits(classes: int) -> list[int]:
    """Return into how many tasks of as many classes each, at least two, classes can be split."""
    return [tasks for tasks in range(1, classes // 2 + 1) if classes % tasks == 0]
