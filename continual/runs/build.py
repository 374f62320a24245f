"""The network and the optimizer of a spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import nn

from continual.runs.calls import EXPECTED, call
from continual.runs.catalogue import NETWORKS, OPTIMIZERS, Optimizer
from continual.runs.data import TaskData
from continual.runs.independent import Independent
from continual.runs.sizes import make_plain, resized
from continual.runs.spec import CLSpec
from continual.tasks.masks import TaskMasks
from continual.tasks.plan import Plan
from sparse_core.budgets.selection import select
from sparse_core.checks import InputError
from sparse_core.imports import is_reference
from sparse_core.optim import use_kernels


def make_optimizer(spec: CLSpec, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Build the optimizer of a spec; one that goes by a name of ours makes its steps by kernels.

    Raises:
        InputError: In one line, if there is none such, or it takes other arguments.
    """
    known = OPTIMIZERS.get(spec.optimizer, Optimizer(spec.optimizer))
    settings = {"lr": spec.lr, **known.settings, **spec.optimizer_kwargs}
    made = call("optimizer", known.make, parameters, settings=settings)
    if not isinstance(made, torch.optim.Optimizer):
        raise InputError(
            f"optimizer={spec.optimizer!r}: gave a {type(made).__name__}, must be "
            f"{EXPECTED['optimizer']}",
            field="optimizer",
        )
    if spec.optimizer in OPTIMIZERS:
        use_kernels(made)
    return made


def make_model(spec: CLSpec, task: TaskData) -> TaskMasks | Independent:
    """Build the network of a spec for the data's features and classes.

    Raises:
        ValueError: If the spec's tasks do not fit into it, or no network is as small as a baseline
            has to be.
    """
    sparse, share = spec.settings
    spec = resized(spec, task)
    if spec.baseline_in_force.apart:
        return Independent(lambda: make_plain(spec, task), spec.tasks, sparse, spec.seed)
    network = make_plain(spec, task)
    if spec.isolation_in_force == "hard":
        plan = Plan(select(network), sparse, share, spec.reserve)
        plan.check(spec.tasks, "sparse.", lambda: _wider(spec, task))
    return TaskMasks(
        network,
        dataclasses.replace(sparse, seed=spec.seed, horizon=None),
        isolation=spec.isolation_in_force,
        share=share,
        reserve=spec.reserve,
        tasks=spec.tasks,
        batch=spec.batch_size,
    )


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
