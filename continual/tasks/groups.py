"""Which group of an optimizer trains a task's own tensors: that of their predecessors.

A new task has a new tensor for each place in the network. It is trained as the tensor of an earlier
task in the same place is: with its learning rate, its weight decay, whatever the group says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from continual.tasks.task import TensorPlace
from sparse_core.layers.companions import key


def enter(
    optimizer: Optimizer,
    places: Sequence[TensorPlace],
    networks: Sequence[Mapping[TensorPlace, Tensor]],
) -> None:
    """Enter the tensors of tasks that an optimizer lacks, each into its predecessor's group.

    The scores of a first task go where the weights are that they choose from, for an optimizer may
    be older than they are. What has no predecessor in the optimizer stays out of it.

    Args:
        optimizer: Trains some of the tensors already.
        places: The places of a task's own tensors.
        networks: The tensors of each task in all places, in the order in which the tasks began.
    """
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for place in places:
        if not place.trained:
            continue
        tensors = [network[place] for network in networks]
        weight = place.module._parameters.get(place.key.removesuffix(key("", "scores")))
        known = [groups[id(tensor)] for tensor in [*tensors, weight] if id(tensor) in groups]
        group = known[0] if known else None
        for tensor in tensors:
            group = groups.get(id(tensor), group)
            if group is not None and id(tensor) not in groups:
                _add(group, place.name, tensor)
                groups[id(tensor)] = group


def _add(group: dict[str, Any], name: str, tensor: Tensor) -> None:
    group["params"].append(tensor)
    if "param_names" in group:
        group["param_names"].append(name)
