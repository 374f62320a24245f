"""Sparse layers and the algorithms that move their topology while they train.

    from sparse_core import SparseConfig, sparsify

    engine = sparsify(model, SparseConfig(method="rigl", sparsity=0.9), optimizer)

From here on `optimizer.step()` also drops and grows weights when it is time.
Names are imported on first use, so `sparse_core.config` costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_core.building import sparsify
    from sparse_core.config import SparseConfig
    from sparse_core.engine import Engine

__all__ = ["Engine", "SparseConfig", "sparsify"]

_HOME = {
    "Engine": "sparse_core.engine",
    "SparseConfig": "sparse_core.config",
    "sparsify": "sparse_core.building",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
