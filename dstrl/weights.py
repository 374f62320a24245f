"""What a result says about a policy's weights: how many there are, and how sparse they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dstrl.mixin import SparsePolicy


def weights_of(policy: SparsePolicy) -> dict[str, Any]:
    """Return `layers` (of all networks: name, active and total weights) and `sparsity`.

    The sparsity, `requested` and `achieved`, is that of the layers which a budget covers.
    """
    layers = []
    active = total = 0
    wanted: dict[float, int] = {}
    for name, engine in policy.sparse_engines.items():
        config = engine.config
        sparse = {tensor.name for tensor in engine.tensors}
        for layer in engine.layers():
            full = layer.name if name == "policy" else f"{name}.{layer.name}"
            layers.append({"name": full, "active": layer.active, "total": layer.total})
            if config.method != "dense" and (config.dense_in_budget or layer.name in sparse):
                active, total = active + layer.active, total + layer.total
                wanted[config.sparsity] = wanted.get(config.sparsity, 0) + layer.total
    achieved = 1 - active / total if total else 0.0
    return {
        "sparsity": {"requested": _mean_sparsity(wanted), "achieved": achieved},
        "layers": layers,
    }


def _mean_sparsity(weights: Mapping[float, int]) -> float:
    """Return the mean of requested sparsities, each with the number of weights it is for."""
    if len(weights) <= 1:
        return next(iter(weights), 0.0)
    return float(np.average(list(weights), weights=list(weights.values())))
