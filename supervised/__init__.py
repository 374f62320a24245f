"""Supervised learning with large sparse layers: extreme classification, recommendation.

    from supervised import XMCSpec, read_samples
    from supervised import RecSpec, read_pairs

Names are imported on first use, so `supervised.xmc.spec` and `supervised.rec.spec` cost no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervised.data.interactions import Interactions, load_interactions
    from supervised.data.pairs import Pairs, read_pairs
    from supervised.data.rows import Rows
    from supervised.data.text import Samples, read_samples
    from supervised.rec.models import Factors, LightGCN, NeuMF
    from supervised.rec.predict import best_items
    from supervised.rec.spec import RecSpec
    from supervised.xmc.model import OneVsAll
    from supervised.xmc.predict import best_labels
    from supervised.xmc.spec import XMCSpec

__all__ = [
    "Factors",
    "Interactions",
    "LightGCN",
    "NeuMF",
    "OneVsAll",
    "Pairs",
    "RecSpec",
    "Rows",
    "Samples",
    "XMCSpec",
    "best_items",
    "best_labels",
    "load_interactions",
    "read_pairs",
    "read_samples",
]

_HOME = {
    "Factors": "supervised.rec.models",
    "Interactions": "supervised.data.interactions",
    "LightGCN": "supervised.rec.models",
    "NeuMF": "supervised.rec.models",
    "OneVsAll": "supervised.xmc.model",
    "Pairs": "supervised.data.pairs",
    "RecSpec": "supervised.rec.spec",
    "Rows": "supervised.data.rows",
    "Samples": "supervised.data.text",
    "XMCSpec": "supervised.xmc.spec",
    "best_items": "supervised.rec.predict",
    "best_labels": "supervised.xmc.predict",
    "load_interactions": "supervised.data.interactions",
    "read_pairs": "supervised.data.pairs",
    "read_samples": "supervised.data.text",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
