"""Numbers of a result that reports tabulate as they are, not in percent. No torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def samples_kept(result: Mapping[str, Any]) -> float | None:
    """Return how many samples of other tasks were there while a task was learnt; none: None."""
    return result.get("samples_kept") or None
