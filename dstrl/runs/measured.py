"""Numbers for reports' tables from what callbacks measured in a run. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INPUTS = "dstrl.watching.inputs:InputConnections"


def at_true_features(result: Mapping[str, Any]) -> float | None:
    """Return the percentage of connections of input layers at true features; None: not measured.

    Args:
        result: Of a run that had the callback `InputConnections`.
    """
    found: float | None = result.get("measured", {}).get(INPUTS, {}).get("true")
    return found
