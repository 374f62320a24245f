"""How large the dense networks of baselines are: as many weights as what they are compared with."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from continual.runs.catalogue import NETWORKS
from continual.runs.data import TaskData
from continual.runs.networks import make_network, own_network
from continual.runs.spec import CLSpec
from continual.tasks.task import head_of
from sparse_core.budgets.counts import active_count, dense_count
from sparse_core.budgets.selection import select
from sparse_core.budgets.widths import Widths, widest_within
from sparse_core.imports import is_reference


def resized(spec: CLSpec, task: TaskData) -> CLSpec:
    """Return a spec with the widths of its baseline; any other spec as it is.

    Hidden layers, and blocks of convolutions, shrink by the same factor to the widest network
    within the number of weights. Nothing is drawn.

    Raises:
        InputError: If even one neuron a layer is too much.
    """
    size = spec.baseline_in_force.size
    if size == "whole":
        return spec
    share = size == "share"
    names = NETWORKS[spec.network].widths
    whole: Widths = {name: list(getattr(spec, name)) for name in names}

    def changed(widths: Widths) -> CLSpec:
        assert isinstance(widths, dict)
        tuples: dict[str, Any] = {name: tuple(part) for name, part in widths.items()}
        return dataclasses.replace(spec, **tuples)

    found = widest_within(
        whole,
        lambda widths: dense_count(_shape_of(changed(widths), task)),
        share_of_a_task(spec, task) if share else active_count(_shape_of(spec, task), spec.size),
        "hidden",
        "lower the number of tasks" if share else "lower the sparsity",
    )
    return changed(found)


def share_of_a_task(spec: CLSpec, task: TaskData) -> int:
    """Count a task's share of one dense network with a head for each task."""
    items = select(_shape_of(spec, task))
    head = head_of(items)
    shared = sum(item.numel for item in items if item.name != head)
    return shared // spec.tasks + sum(item.numel for item in items if item.name == head)


def _shape_of(spec: CLSpec, task: TaskData) -> nn.Module:
    with torch.device("meta"):
        return make_plain(spec, task)


def make_plain(spec: CLSpec, task: TaskData) -> nn.Module:
    """Build a network of a spec's widths, as it is before anything is made sparse."""
    features = task.train_x.shape[1]
    if is_reference(spec.network):
        return own_network(spec.network, features, task.classes, spec.network_kwargs)
    return make_network(spec.network, features, task.classes, spec.hidden, spec.channels)
