"""Numbers of results that reports tabulate as they are, not in percent. No torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def trained_mean(result: Mapping[str, Any]) -> float | None:
    """Return how many weights a task could train, mean over tasks."""
    counts = result.get("trained_weights")
    return sum(counts) / len(counts) if counts else None


def trained_least(result: Mapping[str, Any]) -> float | None:
    """Return how many weights the task could train that had the fewest."""
    return min(result.get("trained_weights") or [], default=None)
