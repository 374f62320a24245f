"""Checkpoints of `TaskMasks`: all of one fits, or nothing of it is loaded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from continual.tasks.rules import ISOLATIONS, SHARING_POLICIES
from continual.tasks.store import TaskStore
from continual.tasks.task import NO_TASK, TaskState
from sparse_core.bits import key_of, packed_size
from sparse_core.checks import InputError

ANOTHER = "checkpoint of another model"
RULES = ("isolation", "share"), (ISOLATIONS, SHARING_POLICIES)

Shapes = Mapping[str, tuple[int, ...]]


def rules_of(isolation: str, share: str) -> Tensor:
    """Return what a checkpoint says of isolation and sharing, `(2,) uint8`."""
    policy = SHARING_POLICIES.index(share) if isolation == "hard" else 0
    return torch.tensor([ISOLATIONS.index(isolation), policy], dtype=torch.uint8)


def prepare(model: TaskStore, state_dict: Mapping[str, Tensor], prefix: str) -> None:
    """Give a network the tasks of a checkpoint that is about to be loaded.

    Parameters of tasks that it has already stay what they are, so an optimizer can go on; those of
    a network without tasks become the first task's, as when one begins.

    Args:
        model: The network.
        state_dict: The checkpoint.
        prefix: What names of the network begin with there.

    Raises:
        ValueError: Naming the first thing that differs. Nothing is changed then.
    """
    indices = _check(model, state_dict, prefix)
    before = {label: model._task(int(label)) for label in model.tasks}
    model.tasks.clear()
    for label, index in indices.items():
        task = before.get(label)
        if task is None:
            first = not before and not model.tasks
            tensors = {at: at.tensor for at in model._places} if first else model._new_tensors()
            task = TaskState(index, tensors).to(model.current.device)
        task.reopen(model._places)
        task.make_room(model._masked_apart(), state_dict, f"{prefix}tasks.{label}.")
        task.index.fill_(index)
        model.tasks[label] = task
    if indices:
        now = int(state_dict[f"{prefix}current"])
        task = model._task(model.labels[now])  # NO_TASK: the latest
        model._bind(task)
        if now == NO_TASK:
            task.leave_copies(model._places)
    elif before:
        model._bind(TaskState(NO_TASK, model._new_tensors()))


def _check(model: TaskStore, state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, int]:
    """Return the index of each task in a checkpoint by label, in the order of the indices."""
    there = {
        name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)
    }
    shapes = {name: tuple(value.shape) for name, value in there.items()}
    here = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    _compare(_below(here, "model."), _below(shapes, "model."))
    _compare(_without_tasks(here), _without_tasks(shapes))
    _compare_rules(model.rules, there["rules"])
    indices = {}
    for label in dict.fromkeys(name.split(".")[1] for name in shapes if name.startswith("tasks.")):
        stem = f"tasks.{label}."
        _compare({f"{stem}index": ()}, {f"{stem}index": shapes.get(f"{stem}index")})
        indices[label] = int(there[f"{stem}index"])
        finished = indices[label] != int(there["current"])
        _compare(
            {f"{stem}{name}": shape for name, shape in _shapes_of_task(model, finished).items()},
            {name: shape for name, shape in shapes.items() if name.startswith(stem)},
        )
    return dict(sorted(indices.items(), key=lambda item: item[1]))


def _below(shapes: Shapes, stem: str) -> Shapes:
    return {name[len(stem) :]: shape for name, shape in shapes.items() if name.startswith(stem)}


def _without_tasks(shapes: Shapes) -> Shapes:
    return {name: shape for name, shape in shapes.items() if not name.startswith("tasks.")}


def _shapes_of_task(model: TaskStore, finished: bool) -> Shapes:
    shapes: dict[str, tuple[int, ...]] = {"index": ()}
    for place in model._places:
        shapes[f"own.{key_of(place.name)}"] = tuple(place.tensor.shape)
    for tensor in model._masked_apart() if finished else ():
        shapes[f"masks.{key_of(tensor.name)}"] = (packed_size(tensor.numel),)
    for tensor in model._shared if finished and model.reserve is not None else ():
        shapes[f"neurons.{key_of(tensor.name)}"] = (packed_size(tensor.rows),)
    return shapes


def _compare(here: Shapes, there: Mapping[str, tuple[int, ...] | None]) -> None:
    for name in [*here, *there]:
        mine, theirs = here.get(name), there.get(name)
        if mine != theirs:
            shapes = ["absent" if shape is None else shape for shape in (theirs, mine)]
            raise InputError(f"{ANOTHER}: {name} is {shapes[0]} there, {shapes[1]} here")


def _compare_rules(here: Tensor, there: Tensor) -> None:
    numbers = here.tolist(), there.tolist()
    for name, known, mine, theirs in zip(*RULES, *numbers, strict=True):
        if mine != theirs:
            value = known[theirs] if theirs < len(known) else theirs
            raise InputError(f"{ANOTHER}: {name} is {value!r} there, {known[mine]!r} here")
