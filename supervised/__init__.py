"""Supervised learning with sparse layers: images, extreme classification, recommendation.

    from supervised import XMCSpec, read_samples
    from supervised import RecSpec, read_pairs
    from supervised import VisionSpec, load_images

Names are imported on first use, so specs, such as `supervised.xmc.spec`, cost no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervised.data.image_files import load_images
    from supervised.data.images import Images
    from supervised.data.interactions import Interactions, load_interactions
    from supervised.data.pairs import Pairs, read_pairs
    from supervised.data.rows import Rows
    from supervised.data.text import Samples, read_samples
    from supervised.rec.models import Factors, LightGCN, NeuMF
    from supervised.rec.predict import best_items
    from supervised.rec.spec import RecSpec
    from supervised.vision.corrupted import corrupted
    from supervised.vision.spec import VisionSpec
    from supervised.xmc.model import OneVsAll
    from supervised.xmc.predict import best_labels
    from supervised.xmc.spec import XMCSpec

__all__ = [
    "Factors",
    "Images",
    "Interactions",
    "LightGCN",
    "NeuMF",
    "OneVsAll",
    "Pairs",
    "RecSpec",
    "Rows",
    "Samples",
    "VisionSpec",
    "XMCSpec",
    "best_items",
    "best_labels",
    "corrupted",
    "load_images",
    "load_interactions",
    "read_pairs",
    "read_samples",
]

_HOME = {
    "Factors": "supervised.rec.models",
    "Images": "supervised.data.images",
    "Interactions": "supervised.data.interactions",
    "LightGCN": "supervised.rec.models",
    "NeuMF": "supervised.rec.models",
    "OneVsAll": "supervised.xmc.model",
    "Pairs": "supervised.data.pairs",
    "RecSpec": "supervised.rec.spec",
    "Rows": "supervised.data.rows",
    "Samples": "supervised.data.text",
    "VisionSpec": "supervised.vision.spec",
    "XMCSpec": "supervised.xmc.spec",
    "best_items": "supervised.rec.predict",
    "best_labels": "supervised.xmc.predict",
    "corrupted": "supervised.vision.corrupted",
    "load_images": "supervised.data.image_files",
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
