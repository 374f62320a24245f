"""Continual learning with sparse networks: per-task masks for Avalanche models and strategies.

    from continual import MaskIsolation, TaskMasks

    model = TaskMasks(model, SparseConfig(method="srigl", sparsity=0.9))
    strategy = Naive(model=model, ..., plugins=[MaskIsolation()])

Names are imported on first use, so `continual.spec` costs neither torch nor Avalanche.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from continual.masks import TaskMasks
    from continual.plugins import MaskIsolation
    from continual.spec import CLSpec
    from continual.strategies import CLDST, WSN, PackNet, SpaceNet, SRigLCL, StaticMasks, SupSup

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
    "CLDST": "continual.strategies",
    "WSN": "continual.strategies",
    "CLSpec": "continual.spec",
    "MaskIsolation": "continual.plugins",
    "PackNet": "continual.strategies",
    "SRigLCL": "continual.strategies",
    "SpaceNet": "continual.strategies",
    "StaticMasks": "continual.strategies",
    "SupSup": "continual.strategies",
    "TaskMasks": "continual.masks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
