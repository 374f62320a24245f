"""What tasks have in common, and what each of them costs.

Four measures, fractions but for the FLOPs:

    overlap (Jaccard)   |A and B| / |A or B| over the weights that two tasks' masks share out
    capacity used       |union of all masks| / all weights
    FLOPs of a task     those of a forward pass over the weights that its network computes with: its
                        own, those it reuses, those of reserved neurons
    trained weights     those of a task's network that were not frozen before it began
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparse_core.metrics.flops import inference_flops

if TYPE_CHECKING:
    from continual.tasks.masks import TaskMasks

MasksByName = Mapping[str, Tensor]


def jaccard(one: MasksByName, other: MasksByName) -> float:
    """Return the overlap of two tasks' masks: 0 if they are disjoint, 1 if they are the same.

    Args:
        one: MasksByName of a task, bool, by the weight's name.
        other: Those of another one, for the same weights.
    """
    both = sum(int((one[name] & other[name]).sum()) for name in one)
    either = sum(int((one[name] | other[name]).sum()) for name in one)
    return both / either if either else 0.0


def overlaps(masks: Sequence[MasksByName]) -> list[list[float]]:
    """Return the overlap of each task with each, `tasks x tasks`."""
    return [[jaccard(one, other) for other in masks] for one in masks]


def capacity_used(masks: Sequence[MasksByName]) -> float:
    """Return the fraction of the weights that at least one task has; 0 without tasks or masks."""
    if not masks or not masks[0]:
        return 0.0
    unions = [reduce(or_, (mask[name] for mask in masks)) for name in masks[0]]
    return sum(int(union.sum()) for union in unions) / sum(union.numel() for union in unions)


def masks_of_shared(model: TaskMasks, label: int) -> dict[str, Tensor]:
    """Return a task's masks of the weights that tasks share out, that is without the head's."""
    masks = model.masks(label)
    return {tensor.name: masks[tensor.name] for tensor in model._shared}


def visible_masks(model: TaskMasks, label: int) -> dict[str, Tensor]:
    """Return the weights that a task's network computes with, those it is lent included."""
    masks, read = model.masks(label), model.lent(label)
    return {name: mask | read[name] if name in read else mask for name, mask in masks.items()}


def task_flops(model: TaskMasks, *shapes: Sequence[int]) -> dict[str, Any]:
    """Count the operations of a forward pass on one sample.

    Args:
        model: The network.
        *shapes: The shape of each input, without the batch dimension.

    Returns:
        `dense`, those of the dense network, and `tasks`, those of each task's, in the order in
        which they began.
    """
    tasks = []
    for label in model.labels:
        active = {name: int(mask.sum()) for name, mask in visible_masks(model, label).items()}
        tasks.append(inference_flops(model.model, *shapes, active=active).sparse)
    return {"dense": inference_flops(model.model, *shapes).dense, "tasks": tasks}


def trained_weights(model: TaskMasks) -> list[int]:
    """Count the weights that each task could train, by the masks with which it ended.

    Under hard isolation these are the weights of its masks that no earlier task has, and all that
    are its own: those of its head and of layers that stay dense. Without isolation each task trains
    all active ones. Biases and normalisation layers are not counted. Where weights are constants
    and scores train (SupSup), it is the weights that a task was the first to choose.

    Returns:
        A count for each task, in the order in which they began.
    """
    layers = model.engine.layers()
    if not model.hard:
        return [sum(layer.active for layer in layers) for _ in model.labels]
    sparse = {tensor.name for tensor in model.engine.tensors}
    kept_dense = sum(layer.total for layer in layers if layer.name not in sparse)
    taken: dict[str, Tensor] = {}
    counts = []
    for label in model.labels:
        count = kept_dense
        for name, mask in model.masks(label).items():
            if name == model.head:
                count += int(mask.sum())
                continue
            earlier = taken.get(name, torch.zeros_like(mask))
            count += int((mask & ~earlier).sum())
            taken[name] = mask | earlier
        counts.append(count)
    return counts
