"""What a run's result says of its networks: how sparse they are, and whether they ever moved."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sparse_core.budgets.distributions import own_sparsity
from sparse_core.engine import Engine
from sparse_core.layers.state import Condensed
from sparse_core.metrics.memory import memory
from sparse_core.schedule import Schedule
from sparse_core.weights.tensor import SparseTensor

LARGEST = 2**24
"""Weights of a layer up to which masks are looked at as a whole."""

WHOLE = ("policy", "network")
"""Names of engines that have a network to themselves."""


def weights(engines: Mapping[str, Engine]) -> dict[str, Any]:
    """Count the weights of networks.

    Args:
        engines: By name, which goes before the names of layers unless it is one of `WHOLE`.

    Returns:
        Three entries. `layers` has of each, dense ones included, name, active and total weights,
        and the backend in force, `dense`, `masked` or `condensed`; of sparse ones that are not huge
        also their `neurons`, how many of them are `live` (have an active weight), and where the
        topology moves the fraction `explored`, which has ever been active (Liu et al. 2021, ITOP).
        `bytes` are those of weights, gradients and moments, `dense` and `sparse` (see
        `sparse_core.metrics.memory`). `sparsity` has `requested`, `achieved`, and the `active` and
        `total` weights that it is about, which are those that are sparse (and the dense ones too,
        if they count towards the budget).
    """
    layers = []
    active = total = 0
    wanted: Counter[float] = Counter()
    for name, engine in engines.items():
        config = engine.config
        sparse = {tensor.name: tensor for tensor in engine.tensors}
        for layer, item in zip(engine.layers(), engine.selected, strict=True):
            full = layer.name if name in WHOLE else f"{name}.{layer.name}"
            counts = {"active": layer.active, "total": layer.total}
            layers.append({"name": full, **counts, **_form(sparse.get(layer.name))})
            if config.facts.sparse and (config.dense_in_budget or layer.name in sparse):
                active, total = active + layer.active, total + layer.total
                own = own_sparsity(item, config)
                wanted[config.sparsity if own is None else own] += layer.total
    return {
        "layers": layers,
        "sparsity": {
            "requested": _mean(wanted),
            "achieved": 1 - active / total if total else 0.0,
            "active": active,
            "total": total,
        },
        **_bytes(engines),
    }


def _form(tensor: SparseTensor | None) -> dict[str, Any]:
    """Return the backend of a layer and, if it is sparse, what became of its neurons."""
    if tensor is None:
        return {"backend": "dense"}
    backend = {"backend": "condensed" if isinstance(tensor.layer, Condensed) else "masked"}
    if tensor.numel > LARGEST:
        return backend
    active, seen = tensor.active(), tensor.seen()
    live = int(active.any(dim=1).sum())
    explored = {} if seen is None else {"explored": int((seen | active).sum()) / tensor.numel}
    return {**backend, "neurons": tensor.rows, "live": live, **explored}


def _bytes(engines: Mapping[str, Engine]) -> dict[str, dict[str, int]]:
    """Return the bytes of networks in training, unless a layer is huge."""
    if any(tensor.numel > LARGEST for engine in engines.values() for tensor in engine.tensors):
        return {}
    sizes = [memory(engine) for engine in engines.values()]
    dense = sum(size.dense.total for size in sizes)
    sparse = sum(size.condensed.total for size in sizes)
    return {"bytes": dict(dense=dense, sparse=sparse)}


def _mean(weights: Mapping[float, int]) -> float:
    """Return the mean of sparsities, each with the number of weights that it is for."""
    if len(weights) <= 1:
        return next(iter(weights), 0.0)
    total = sum(weights.values())
    return math.fsum(sparsity * count for sparsity, count in weights.items()) / total


class UpdateTally:
    """Counts the updates of networks whose method has updates, task by task.

    Args:
        engines: By name.
    """

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = {n: engine for n, engine in engines.items() if engine.updater is not None}
        self._before = {name: engine.updates for name, engine in self._engines.items()}
        self._still: dict[tuple[str, str], list[int | None]] = {}

    def end(self, task: int | None = None) -> None:
        """Note which networks were updated since the last call; call it after training or a task.

        Args:
            task: The number of the task that was trained; None: the training has no tasks.
        """
        for name, engine in self._engines.items():
            if engine.updates == self._before[name]:
                self._still.setdefault((name, _said(engine)), []).append(task)
            self._before[name] = engine.updates

    def result(self) -> dict[str, Any]:
        """Return `updates`, their number by network, and `still`: a sentence on those without."""
        sentences = []
        for (name, said), tasks in self._still.items():
            numbers = ", ".join(str(task) for task in tasks if task is not None)
            where = f", task{'s' if len(tasks) > 1 else ''} {numbers}" if numbers else ""
            sentences.append(f"{name}{where}: {said}")
        return {
            "updates": {name: engine.updates for name, engine in self._engines.items()},
            "still": sentences,
        }


def _said(engine: Engine) -> str:
    """Say why there was no update in this phase of training."""
    schedule, horizon = Schedule.of(engine.config), engine.horizon
    frozen = ""
    if schedule.stops and horizon is not None:
        frozen = f", frozen from step {math.ceil(schedule.stop_at * horizon)} on"
    return (
        f"no update of the topology in {engine.phase:,} optimizer steps "
        f"(update_every={schedule.update_every}{frozen})"
    )
