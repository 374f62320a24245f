"""What a result says of the network, beside its accuracies: capacity, overlap, FLOPs, weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from continual.runs.independent import Independent
from continual.tasks.masks import TaskMasks
from continual.tasks.overlap import (
    capacity_used,
    masks_of_shared,
    overlaps,
    task_flops,
    trained_weights,
)
from sparse_core.engine import Engine
from sparse_core.metrics.flops import inference_flops

Model = TaskMasks | Independent


def engines_of(model: Model) -> dict[str, Engine]:
    """Return the engines of a network, by name."""
    return model.engines if isinstance(model, Independent) else {"network": model.engine}


def account(model: Model, shape: Sequence[int]) -> Mapping[str, Any]:
    """Say what tasks hold of a network, and what each of them costs.

    Args:
        model: The network, after the last task.
        shape: Of an input, without the batch dimension.

    Returns:
        `capacity` of each shared layer, `capacity_used` of all, `overlap` of each two tasks' masks,
        `flops` of a forward pass, and `trained_weights` of each task.
    """
    if isinstance(model, Independent):
        costs = [inference_flops(network, shape).dense for network in model.networks]
        return {
            "capacity": [],
            "capacity_used": 0.0,
            "overlap": overlaps([{} for _ in costs]),
            "flops": {"dense": costs[0], "tasks": costs},
            "trained_weights": [
                sum(layer.total for layer in engine.layers()) for engine in model.engines.values()
            ],
        }
    masks = [masks_of_shared(model, label) for label in model.labels]
    return {
        "capacity": [dataclasses.asdict(layer) for layer in model.capacity()],
        "capacity_used": capacity_used(masks),
        "overlap": overlaps(masks),
        "flops": task_flops(model, shape),
        "trained_weights": trained_weights(model),
    }
