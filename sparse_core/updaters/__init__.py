"""Updaters: what a method does when it is time, each a small change of the one before."""

from __future__ import annotations

import importlib

from sparse_core.config import SparseConfig
from sparse_core.registry import METHODS
from sparse_core.updaters.base import Updater


def updater_for(config: SparseConfig) -> Updater | None:
    """Return the updater of the configured method; None where the topology never moves."""
    path = METHODS[config.method].updater
    if path is None:
        return None
    module, _, name = path.partition(":")
    updater = getattr(importlib.import_module(module), name)(config)
    assert isinstance(updater, Updater)
    return updater


__all__ = ["Updater", "updater_for"]
