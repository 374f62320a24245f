"""Sequences of tasks from images: each its own classes, order of pixels or angle.

Class labels start from zero in each task. (Avalanche fills the logits of absent classes with zeros,
which a task's own logits may well fall below.)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from continual.avalanche_compat import avalanche
from continual.runs.catalogue import SCENARIOS, parts_of
from continual.runs.data import SIZE, TaskData, image_folder, load_images
from continual.runs.datasets import DATASETS, is_npz, locate
from continual.runs.own_data import dataset_of, read_npz, tasks_of
from sparse_core.checks import InputError
from sparse_core.imports import is_reference, load
from sparse_core.streams import stream

Make = Callable[[TaskData, int, int, int | None], list[TaskData]]


def load_tasks(
    benchmark: str,
    tasks: int,
    seed: int = 0,
    data: str | Path | None = None,
    samples: int | None = None,
    *,
    dataset: str | None = None,
    folder: str | None = None,
    size: int = SIZE,
    download: bool = False,
) -> list[TaskData]:
    """Make the tasks of a benchmark.

    Args:
        benchmark: A benchmark, a scenario or a function of your own, as in `CLSpec`.
        tasks: How many.
        seed: Seeds the permutations of `permuted-*`, whose first task keeps its pixels in place,
            and the choice of samples.
        data: Folder of data sets; None: the environment variable DST_DATA.
        samples: Training samples of each task; None, or more than there are: all.
        dataset: Of a scenario: its data set, as in `CLSpec`.
        folder: Of `*-folder`: the folder of images, below the data folder or absolute.
        size: Side of the images of TinyImageNet and of folders, in pixels.
        download: Whether to download what is missing.

    Raises:
        InputError: If there is no such benchmark, its classes cannot be shared out evenly, or the
            data is not where it should be.
    """
    parts = parts_of(benchmark, dataset)
    if parts is None:
        own = tasks_of(benchmark, tasks, seed)
        return [few(task, samples, seed, number) for number, task in enumerate(own)]
    scenario, name = parts
    if name in DATASETS:
        images = load_images(name, data, folder=folder, size=size, download=download)
    elif is_reference(name):
        images = dataset_of(name)
    else:
        path = locate(name, data)
        images = read_npz(path) if is_npz(name) else image_folder(path, size)
    make: Make = load("benchmark", SCENARIOS[scenario].make, "a scenario")
    return make(images, tasks, seed, samples)


def split_image_folder(
    folder: str | Path,
    tasks: int,
    seed: int = 0,
    samples: int | None = None,
    size: int = SIZE,
) -> list[TaskData]:
    """Split any folder of images into tasks: `folder/{train,test}/CLASS/*` or `folder/CLASS/*`.

    Args:
        folder: The folder.
        tasks: How many; each gets an equal share of the classes, in alphabetical order.
        seed: Seeds the choice of samples.
        samples: Training samples of each task; None: all.
        size: Images are brought to `size` x `size` pixels.

    Raises:
        ValueError: If it is no such folder, or its classes cannot be shared out evenly.
    """
    return split(image_folder(folder, size), tasks, seed, samples)


def split(
    images: TaskData, tasks: int, seed: int = 0, samples: int | None = None
) -> list[TaskData]:
    """Give each task an equal share of the classes, in order, relabelled from zero.

    Raises:
        InputError: If there is no equal share, or nothing to test a task with.
    """
    share, rest = divmod(images.classes, tasks)
    if rest or not share:
        raise InputError(
            f"tasks={tasks}: {images.classes} classes cannot be shared out evenly", field="tasks"
        )
    parts = [_classes(images, task * share, share) for task in range(tasks)]
    untested = [number for number, part in enumerate(parts) if not len(part.test_y)]
    if untested:
        raise InputError(
            f"tasks={tasks}: no test sample is of the classes of task {untested[0]}", field="tasks"
        )
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


def rotated(
    images: TaskData, tasks: int, seed: int = 0, samples: int | None = None
) -> list[TaskData]:
    """Turn the images of task k by k / tasks of half a turn; grey and square.

    Raises:
        InputError: If they are not.
    """
    features = images.train_x.shape[1]
    if math.isqrt(features) ** 2 != features:
        raise InputError(
            f"benchmark='rotated': samples have {features} features, must be square, grey images",
            field="benchmark",
        )
    result = []
    for task in range(tasks):
        own, angle = few(images, samples, seed, task), math.pi * task / tasks
        result.append(
            dataclasses.replace(
                own, train_x=_turned(own.train_x, angle), test_x=_turned(own.test_x, angle)
            )
        )
    return result


def few(images: TaskData, samples: int | None, seed: int, task: int) -> TaskData:
    """Keep so many random training samples of a task; None: all."""
    if samples is None:
        return images
    rows = torch.randperm(len(images.train_y), generator=stream(seed, "samples", task))[:samples]
    return dataclasses.replace(images, train_x=images.train_x[rows], train_y=images.train_y[rows])


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


def _turned(x: Tensor, angle: float) -> Tensor:
    """Turn `(n, side * side)` images about their middle, bilinearly, in their darkest shade."""
    if angle == 0:
        return x
    side = math.isqrt(x.shape[1])
    cos, sin = math.cos(angle), math.sin(angle)
    maps = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(len(x), 2, 3)
    ground = x.min()
    images = (x - ground).view(-1, 1, side, side)
    grid = affine_grid(maps, list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False).flatten(1) + ground
