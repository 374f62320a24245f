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
    from sparse_core.checks import InputError
    from sparse_core.config import SparseConfig
    from sparse_core.engine import Engine
    from sparse_core.export.condense import condense
    from sparse_core.export.csr import to_torch_csr
    from sparse_core.export.onnx import to_onnx
    from sparse_core.layers.condensed import CondensedLinear
    from sparse_core.layers.warming import warmup
    from sparse_core.method import Method
    from sparse_core.rules import drop_rule, growth_rule

__all__ = [
    "CondensedLinear",
    "Engine",
    "InputError",
    "Method",
    "SparseConfig",
    "condense",
    "drop_rule",
    "growth_rule",
    "sparsify",
    "to_onnx",
    "to_torch_csr",
    "warmup",
]

_HOME = {
    "CondensedLinear": "sparse_core.layers.condensed",
    "Engine": "sparse_core.engine",
    "InputError": "sparse_core.checks",
    "Method": "sparse_core.method",
    "SparseConfig": "sparse_core.config",
    "condense": "sparse_core.export.condense",
    "drop_rule": "sparse_core.rules",
    "growth_rule": "sparse_core.rules",
    "sparsify": "sparse_core.building",
    "to_onnx": "sparse_core.export.onnx",
    "to_torch_csr": "sparse_core.export.csr",
    "warmup": "sparse_core.layers.warming",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
