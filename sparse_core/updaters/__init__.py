"""Updaters: what each method does at an update; most are small variations of another."""

from __future__ import annotations

from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.imports import load
from sparse_core.updaters.base import Updater

EXPECTED = "a subclass of sparse_core.updaters.Updater"


def updater_for(config: SparseConfig) -> Updater | None:
    """Return the updater of the configured method; None where the topology never moves.

    Raises:
        InputError: If the method's updater is not one, or a rule of the configuration cannot be
            used.
    """
    found: object = config.facts.updater
    if found is None:
        return None
    if isinstance(found, str):
        found = load("updater", found, EXPECTED)
    if not isinstance(found, type) or not issubclass(found, Updater):
        raise InputError(
            f"method={config.method!r}: its updater is {found!r}, must be {EXPECTED}",
            field="method",
        )
    return found(config)


__all__ = ["Updater", "updater_for"]
