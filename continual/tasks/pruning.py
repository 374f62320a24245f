"""Pruning at the end of a task, for methods that start dense and did not get to it.

Early stopping ends a task before its schedule does, or brings back weights that are older than the
pruning. The published order is to train, to prune and to train on; here the last part is missing,
which is for the caller to say.
"""

from __future__ import annotations

import dataclasses

import torch

from sparse_core.engine import Engine
from sparse_core.updaters.demands import demands
from sparse_core.updaters.pruning import GMP
from sparse_core.updaters.scene import Moment
from sparse_core.weights.delta import Delta


def left_to_prune(engine: Engine) -> int:
    """Return by how many weights a network exceeds its budget that started dense; else 0."""
    if not engine.config.density_moves or engine.config.facts.in_rounds:
        return 0
    return max(0, sum(tensor.count() - tensor.budget for tensor in engine.tensors))


def prune(engine: Engine) -> None:
    """Prune to the budget now, whatever the schedule says, by the configured drop rule.

    Where that rule needs a gradient there is none after training: magnitude takes its place.

    Args:
        engine: Whose density moves on a schedule.
    """
    config = engine.config
    if demands(config)["drop"] != "nothing":
        config = dataclasses.replace(config, drop="magnitude")
    moment = Moment(engine.steps, engine.updates, fraction=0.0, last=True, seed=config.seed)
    with torch.no_grad():
        masks = GMP(config).pruned(engine.tensors, moment)
        deltas = {}
        for tensor, mask in zip(engine.tensors, masks, strict=True):
            deltas[tensor.name] = Delta.between(tensor.active(), mask)
            tensor.apply(deltas[tensor.name])
    for observe in engine.observers:
        observe(moment, deltas)
