"""Sequences of tasks from images: each task brings its own classes, or its own order of pixels.

Class labels start from zero in each task. (Avalanche fills the logits of absent classes with zeros,
which a task's own logits may well fall below.)
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from continual.avalanche_compat import avalanche
from continual.spec import BENCHMARKS
from sparse_core.checks import one_of
from sparse_core.streams import stream

DATA_VARIABLE = "DST_DATA"
CLASSES = 10


@dataclass(frozen=True)
class TaskData:
    """Data for one task, or for all before they are told apart.

    Attributes:
        train_x: `(n, features) float32`.
        train_y: `(n,) int64`.
        test_x: `(m, features) float32`.
        test_y: `(m,) int64`.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def load_tasks(
    benchmark: str,
    tasks: int,
    seed: int = 0,
    data: str | Path | None = None,
    samples: int | None = None,
) -> list[TaskData]:
    """Make the tasks of a benchmark.

    Args:
        benchmark: One of `continual.spec.BENCHMARKS`.
        tasks: How many.
        seed: Seeds the permutations of `permuted-*`, whose first task keeps its pixels in place,
            and the choice of samples.
        data: Folder that holds `MNIST/raw`; None: the environment variable DST_DATA.
        samples: Training samples of each task; None, or more than there are: all.

    Raises:
        ValueError: If there is no such benchmark.
        FileNotFoundError: If the data is not where it should be.
    """
    one_of("benchmark", benchmark, BENCHMARKS)
    kind, _, source = benchmark.partition("-")
    images = digits() if source == "digits" else mnist(data)
    make = {"split": split, "permuted": permuted}[kind]
    return make(images, tasks, seed, samples)


def split(
    images: TaskData, tasks: int, seed: int = 0, samples: int | None = None
) -> list[TaskData]:
    """Give each task an equal share of the classes, in order, relabelled from zero."""
    share = CLASSES // tasks
    parts = [_classes(images, task * share, share) for task in range(tasks)]
    return [few(part, samples, seed, task) for task, part in enumerate(parts)]


def permuted(
    images: TaskData, tasks: int, seed: int = 0, samples: int | None = None
) -> list[TaskData]:
    """Give each task but the first a random order of the pixels."""
    result = [few(images, samples, seed, 0)]
    for task in range(1, tasks):
        own = few(images, samples, seed, task)
        generator = stream(seed, "permutation", task)
        order = torch.randperm(images.train_x.shape[1], generator=generator)
        result.append(
            dataclasses.replace(own, train_x=own.train_x[:, order], test_x=own.test_x[:, order])
        )
    return result


def few(images: TaskData, samples: int | None, seed: int, task: int) -> TaskData:
    """Keep so many random training samples of a task; None: all."""
    if samples is None:
        return images
    rows = torch.randperm(len(images.train_y), generator=stream(seed, "samples", task))[:samples]
    return dataclasses.replace(images, train_x=images.train_x[rows], train_y=images.train_y[rows])


def digits() -> TaskData:
    """Load scikit-learn's 1,797 digits of 8 x 8; a fixed fifth, stratified, is for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    x, y = (bunch.data / 16).astype("float32"), bunch.target.astype("int64")
    parts = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    train_x, test_x, train_y, test_y = map(torch.from_numpy, parts)
    return TaskData(train_x, train_y, test_x, test_y)


def mnist(data: str | Path | None = None) -> TaskData:
    """Load MNIST from a folder in torchvision's layout; nothing is downloaded.

    Raises:
        FileNotFoundError: If the folder does not hold it.
    """
    from torchvision.datasets import MNIST

    folder = data or os.environ.get(DATA_VARIABLE)
    if not folder:
        raise FileNotFoundError(
            f"data=None: set {DATA_VARIABLE} (or data) to a folder that holds MNIST/raw/*-ubyte"
        )
    try:
        train, test = (MNIST(str(folder), train=train, download=False) for train in (True, False))
    except RuntimeError:
        raise FileNotFoundError(
            f"data={str(folder)!r}: no MNIST there; expected the files {folder}/MNIST/raw/*-ubyte"
        ) from None
    return TaskData(_pixels(train.data), train.targets, _pixels(test.data), test.targets)


def as_avalanche(tasks: Sequence[TaskData]) -> Any:
    """Return the tasks as a task-incremental Avalanche benchmark, with train and test streams."""
    return avalanche.benchmarks.tensors_benchmark(
        train_tensors=[(task.train_x, task.train_y) for task in tasks],
        test_tensors=[(task.test_x, task.test_y) for task in tasks],
        task_labels=list(range(len(tasks))),
    )


def _classes(images: TaskData, first: int, count: int) -> TaskData:
    train = (images.train_y >= first) & (images.train_y < first + count)
    test = (images.test_y >= first) & (images.test_y < first + count)
    return TaskData(
        images.train_x[train],
        images.train_y[train] - first,
        images.test_x[test],
        images.test_y[test] - first,
    )


def _pixels(images: Tensor) -> Tensor:
    """Scale `(n, 28, 28) uint8` to `(n, 784) float32`, mean 0 and variance 1 over MNIST."""
    return (images.flatten(1).float() / 255 - 0.1307) / 0.3081
