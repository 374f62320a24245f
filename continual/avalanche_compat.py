"""Avalanche, importable also where torchvision's compiled operators are not."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from sparse_core.torchvision_compat import prepare_torchvision


def import_avalanche() -> ModuleType:
    """Import Avalanche and return it; its dependencies' warnings at import are not ours to show."""
    prepare_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in ("benchmarks", "evaluation", "models", "training"):
            importlib.import_module(f"avalanche.{part}")
        return importlib.import_module("avalanche")


avalanche = import_avalanche()
