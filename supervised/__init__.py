"""Supervised learning with large sparse layers: extreme classification.

    from supervised import XMCSpec, read_samples

Names are imported on first use, so `supervised.xmc.spec` costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervised.data.rows import Rows
    from supervised.data.text import Samples, read_samples
    from supervised.xmc.model import OneVsAll
    from supervised.xmc.predict import best_labels
    from supervised.xmc.spec import XMCSpec

__all__ = ["OneVsAll", "Rows", "Samples", "XMCSpec", "best_labels", "read_samples"]

_HOME = {
    "OneVsAll": "supervised.xmc.model",
    "Rows": "supervised.data.rows",
    "Samples": "supervised.data.text",
    "XMCSpec": "supervised.xmc.spec",
    "best_labels": "supervised.xmc.predict",
    "read_samples": "supervised.data.text",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
