"""Whether a run's tasks fit beside each other, asked before anything is loaded or trained."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn

from continual.runs.catalogue import NETWORKS, SCENARIOS
from continual.runs.data import TaskData
from continual.runs.datasets import DATASETS
from continual.runs.sizes import make_plain, resized
from continual.runs.spec import CLSpec
from continual.tasks.plan import Plan
from sparse_core.budgets.distributions import budgets
from sparse_core.budgets.patterns import structure_for
from sparse_core.budgets.selection import select
from sparse_core.imports import is_reference


def check(spec: CLSpec) -> None:
    """Check that the tasks of a spec fit, if what is known without the data suffices to tell.

    Raises:
        InputError: If they do not, with what helps.
    """
    task = _shaped(spec)
    if task is None or is_reference(spec.network):
        return
    spec = resized(spec, task)
    with torch.device("meta"):
        network = make_plain(spec, task)
    check_room(spec, task, network)


def check_room(spec: CLSpec, task: TaskData, network: nn.Module) -> None:
    """Check that the tasks of a spec fit into a network, beside each other or in one place.

    Args:
        spec: The run, its widths as they are built.
        task: Data of the task with the most classes.
        network: Its network, dense still.

    Raises:
        InputError: If they do not, with what helps.
    """
    sparse, share = spec.settings
    if spec.isolation_in_force != "hard":
        budgets(select(network), sparse, structure_for(sparse.structure_in_force, sparse.group))
    else:
        plan = Plan(select(network), sparse, share, spec.reserve)
        plan.check(spec.tasks, "sparse.", lambda: _wider(spec, task))


def _shaped(spec: CLSpec) -> TaskData | None:
    """Return data of the shape that a task of a known data set has; None: it is not known."""
    known = DATASETS.get(spec.parts[1]) if spec.parts is not None else None
    if spec.parts is None or known is None or known.classes is None or spec.side is None:
        return None
    own = SCENARIOS[spec.parts[0]].own_classes
    classes = math.ceil(known.classes / spec.tasks) if own else known.classes
    x = torch.empty(1, spec.side**2 * (1 if known.grey else 3))
    y = torch.tensor([classes - 1])
    return TaskData(x, y, x, y)


def _wider(spec: CLSpec, task: TaskData) -> list[str]:
    """Say which layers of twice the width would have room for the tasks of a spec."""
    sparse, share = spec.settings
    helps: list[str] = []
    for name in () if is_reference(spec.network) else NETWORKS[spec.network].widths:
        twice = tuple(2 * width for width in getattr(spec, name))
        with torch.device("meta"):
            wider: CLSpec = dataclasses.replace(spec, **{name: twice})  # type: ignore[arg-type]
            network = make_plain(wider, task)
        rooms = Plan(select(network), sparse, share, spec.reserve).rooms()
        if min(rooms.values()) >= spec.tasks:
            helps.append(f"{name}={twice}")
    return helps
