"""The network and the optimizer of a spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import nn

from continual.runs.calls import EXPECTED, call
from continual.runs.catalogue import OPTIMIZERS, Optimizer
from continual.runs.data import TaskData
from continual.runs.fitting import check_room
from continual.runs.independent import Independent
from continual.runs.sizes import make_plain, resized
from continual.runs.spec import CLSpec
from continual.tasks.masks import TaskMasks
from sparse_core.checks import InputError
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
    check_room(spec, task, network)
    return TaskMasks(
        network,
        dataclasses.replace(sparse, seed=spec.seed, horizon=None),
        isolation=spec.isolation_in_force,
        share=share,
        reserve=spec.reserve,
        tasks=spec.tasks,
        batch=spec.batch_size,
        compiled=spec.compiled,
    )
