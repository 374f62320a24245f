"""Continual learning with sparse networks: per-task masks for Avalanche models and strategies.

    from continual import MaskIsolation, TaskMasks

    model = TaskMasks(model, SparseConfig(method="srigl", sparsity=0.9))
    strategy = Naive(model=model, ..., plugins=[MaskIsolation()])

Names are imported on first use, so `continual.runs.spec` costs neither torch nor Avalanche.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from continual.runs.spec import CLSpec
    from continual.strategies.named import (
        CLDST,
        WSN,
        PackNet,
        SpaceNet,
        SRigLCL,
        StaticMasks,
        SupSup,
    )
    from continual.strategies.plugins import MaskIsolation
    from continual.tasks.masks import TaskMasks

__all__ = [
    "CLDST",
    "WSN",
    "CLSpec",
    "MaskIsolation",
    "PackNet",
    "SRigLCL",
    "SpaceNet",
    "StaticMasks",
    "SupSup",
    "TaskMasks",
]

_HOME = {
    "CLDST": "continual.strategies.named",
    "WSN": "continual.strategies.named",
    "CLSpec": "continual.runs.spec",
    "MaskIsolation": "continual.strategies.plugins",
    "PackNet": "continual.strategies.named",
    "SRigLCL": "continual.strategies.named",
    "SpaceNet": "continual.strategies.named",
    "StaticMasks": "continual.strategies.named",
    "SupSup": "continual.strategies.named",
    "TaskMasks": "continual.tasks.masks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
