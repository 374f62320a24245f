"""Numbers of a result that reports tabulate as they are, not in percent. No torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def megabytes(result: Mapping[str, Any]) -> float | None:
    """Return the megabytes of the weights with their indices."""
    return result.get("megabytes")


def training_megabytes(result: Mapping[str, Any]) -> float | None:
    """Return the megabytes of weights, indices, gradients and moments."""
    return result.get("training_megabytes")
