"""What a configuration says of the number of weights, and nothing else. No torch is imported."""

from __future__ import annotations

import dataclasses

from sparse_core.config import SparseConfig

SIZE_FIELDS = ("sparsity", "fan_in", "layer_sparsity", "dense", "dense_in_budget")


def sized(config: SparseConfig) -> SparseConfig:
    """Return a dense configuration with the fields that say how many weights a network has.

    A dense network of as many weights is the same whatever method it is compared with.
    """
    fields = {name: getattr(config, name) for name in SIZE_FIELDS}
    return dataclasses.replace(config.as_dense(), **fields)
