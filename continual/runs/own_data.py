"""Data of the user's own: tensors in a file `.npz` or from a function, tasks from a function.

A data set is four arrays by these names, in a file, in a mapping or one after the other:

    train_x  (n, ...)  floats, or uint8, which are divided by 255; an image channel by channel
    train_y  (n,)      integers: classes, numbered from zero, each at least once
    test_x   (m, ...)  samples of the same shape
    test_y   (m,)      integers, of the same classes

or two, `x` and `y`: every fifth sample of a class is then held out for testing. Of a benchmark of
Avalanche each experience is a task.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from continual.runs.calls import EXPECTED, call
from continual.runs.data import TaskData, held_out
from sparse_core.checks import InputError

ARRAYS = ("train_x", "train_y", "test_x", "test_y")
FOUR_ARRAYS = (
    f"a TaskData, a mapping of {', '.join(ARRAYS)} (or x, y), or the four arrays in this order"
)


def read_npz(path: Path) -> TaskData:
    """Read a data set from a file `.npz`.

    Raises:
        InputError: In one line, if it cannot be read or holds something else.
    """
    said = f"dataset={str(path)!r}"
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{said}: cannot be read as an .npz: {why}", field="dataset") from None
    return as_data(said, "dataset", arrays)


def dataset_of(reference: str) -> TaskData:
    """Return the data set of a function; see `continual.runs.calls.EXPECTED`.

    Raises:
        InputError: In one line, if there is no such function, or it returns something else.
    """
    found = call("dataset", reference)
    return as_data(f"dataset={reference!r}", "dataset", found)


def tasks_of(reference: str, tasks: int, seed: int) -> list[TaskData]:
    """Return the tasks of a function; see `continual.runs.calls.EXPECTED`.

    Raises:
        InputError: In one line, if there is no such function, or it returns something else.
    """
    said = f"benchmark={reference!r}"
    found = call("benchmark", reference, tasks, seed)
    if hasattr(found, "train_stream") and hasattr(found, "test_stream"):
        found = list(_of_avalanche(said, found))
    if isinstance(found, Mapping) or not isinstance(found, Iterable):
        raise InputError(f"{said}: gave a {type(found).__name__}, must be {EXPECTED['benchmark']}")
    made = [as_data(f"{said}: task {i}", "benchmark", task) for i, task in enumerate(found)]
    if len(made) != tasks:
        raise InputError(f"tasks={tasks}: benchmark {reference!r} gave {len(made)}", field="tasks")
    for number, task in enumerate(made):
        if task.train_x.shape[1] != made[0].train_x.shape[1]:
            raise InputError(
                f"{said}: task {number}: has {task.train_x.shape[1]} features, task 0 has "
                f"{made[0].train_x.shape[1]}",
                field="benchmark",
            )
    return made


def as_data(said: str, field: str, found: Any) -> TaskData:
    """Check and convert what a file held or a function returned; samples become flat.

    Args:
        said: What errors begin with.
        field: The field that is wrong then.
        found: See `FOUR_ARRAYS`.

    Raises:
        InputError: In one line that names the array and what it must be.
    """
    arrays = _by_name(said, field, found)
    tensors = {name: _tensor(f"{said}: {name}", field, array) for name, array in arrays.items()}
    for x_name, y_name in (("train_x", "train_y"), ("test_x", "test_y"), ("x", "y")):
        if x_name in tensors:
            x, y = tensors[x_name], tensors[y_name]
            tensors[x_name] = _samples(f"{said}: {x_name}", field, x)
            tensors[y_name] = _labels(f"{said}: {y_name}", field, y, len(x))
    if "x" in tensors:
        x, y = tensors["x"], tensors["y"]
        out = torch.tensor(held_out(y.tolist()))
        tensors = {"train_x": x[~out], "train_y": y[~out], "test_x": x[out], "test_y": y[out]}
    data = TaskData(*(tensors[name] for name in ARRAYS))
    train, test = data.train_x.shape[1], data.test_x.shape[1]
    if train != test:
        raise InputError(f"{said}: train_x has {train} features, test_x {test}", field=field)
    absent = set(range(data.classes)) - set(data.train_y.tolist())
    if absent:
        raise InputError(
            f"{said}: train_y has no sample of class {min(absent)}: classes must be numbered from "
            "zero, in each task",
            field=field,
        )
    if not len(data.test_y) or int(data.test_y.max()) >= data.classes:
        odd = f"has class {int(data.test_y.max())}" if len(data.test_y) else "is empty"
        raise InputError(
            f"{said}: test_y {odd}: must have some of the {data.classes} classes of train_y",
            field=field,
        )
    return data


def _by_name(said: str, field: str, found: Any) -> Mapping[str, Any]:
    if isinstance(found, TaskData):
        return {name: getattr(found, name) for name in ARRAYS}
    if isinstance(found, Mapping) and set(found) in ({*ARRAYS}, {"x", "y"}):
        return found
    if isinstance(found, Sequence) and not isinstance(found, str) and len(found) == len(ARRAYS):
        return dict(zip(ARRAYS, found, strict=True))
    what = (
        f"has {', '.join(map(str, found)) or 'nothing'}"
        if isinstance(found, Mapping)
        else (f"is a {type(found).__name__}")
    )
    raise InputError(f"{said}: {what}: must be {FOUR_ARRAYS}", field=field)


def _tensor(said: str, field: str, array: Any) -> Tensor:
    try:
        return array if isinstance(array, Tensor) else torch.as_tensor(np.asarray(array))
    except (TypeError, ValueError):
        kind = getattr(array, "dtype", type(array).__name__)
        raise InputError(f"{said} is {kind}: must be an array of numbers", field=field) from None


def _samples(said: str, field: str, x: Tensor) -> Tensor:
    """Return `(n, features) float32`."""
    if not x.is_floating_point() and x.dtype != torch.uint8:
        raise InputError(f"{said} is {x.dtype}: must be floats, or uint8", field=field)
    if x.dim() < 2 or not prod(x.shape[1:]):
        raise InputError(
            f"{said} is {tuple(x.shape)}: must be (samples, ...) with at least one feature",
            field=field,
        )
    flat = x.detach().flatten(1).float()
    if not bool(torch.isfinite(flat).all()):
        raise InputError(f"{said} has values that are not finite", field=field)
    return flat / 255 if x.dtype == torch.uint8 else flat


def _labels(said: str, field: str, y: Tensor, samples: int) -> Tensor:
    """Return `(n,) int64`."""
    if tuple(y.shape) != (samples,) or not samples:
        raise InputError(
            f"{said} is {tuple(y.shape)}: must be (samples,) of {samples} samples, at least one",
            field=field,
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise InputError(f"{said} is {y.dtype}: must be integers", field=field)
    y = y.detach().long()
    if int(y.min()) < 0:
        raise InputError(f"{said} has class {int(y.min())}: must not be negative", field=field)
    return y


def _of_avalanche(said: str, benchmark: Any) -> Iterable[tuple[Tensor, ...]]:
    """Yield the arrays of each experience of an Avalanche benchmark, in the stream's order."""
    streams = list(benchmark.train_stream), list(benchmark.test_stream)
    if len(streams[0]) != len(streams[1]):
        raise InputError(
            f"{said}: has {len(streams[0])} train and {len(streams[1])} test experiences: must "
            "have a test set for each task",
            field="benchmark",
        )
    for number, parts in enumerate(zip(*streams, strict=True)):
        arrays: list[Tensor] = []
        for part in parts:
            items = [part.dataset[index][:2] for index in range(len(part.dataset))]
            if not items or not isinstance(items[0][0], Tensor):
                what = type(items[0][0]).__name__ if items else "nothing"
                raise InputError(
                    f"{said}: task {number}: samples are {what}: must be tensors (transform them)",
                    field="benchmark",
                )
            arrays += [torch.stack([x for x, _ in items]), torch.tensor([int(y) for _, y in items])]
        yield tuple(arrays)
