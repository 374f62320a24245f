"""Checkpoints of a run, and what it had cost until each, which its attempts add up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparse_core.checkpoints import Checkpoints
from sparse_core.pickling import Reduce
from sparse_core.rings import Ring
from sweeps.runs.provenance import Meter
from sweeps.store.pace import Pace

COST = "cost"
"""The name in a checkpoint's state of what the run had cost."""


class Costed(Checkpoints):
    """Checkpoints that hold a run's cost so far; a run that goes on from one goes on counting.

    What an attempt did after its last checkpoint is done again and counted once: the cost is that
    of a run which was never stopped.

    Args:
        folder: As for `Checkpoints`.
        minutes: As there.
        key: As there.
        meter: Measures the run.
        pace: Notes how fast it goes.
    """

    def __init__(self, folder: Path, minutes: float, key: str, meter: Meter, pace: Pace) -> None:
        super().__init__(folder, minutes, key)
        self._meter = meter
        self._pace = pace

    def save(
        self,
        state: Mapping[str, Any],
        *,
        outside: Mapping[str, Any] | None = None,
        ring: Ring | None = None,
        reduce: Reduce | None = None,
    ) -> None:
        """Write a checkpoint with the cost so far, as `Checkpoints.save` does."""
        cost = (self._meter.read(), self._pace.so_far())
        super().save({**state, COST: cost}, outside=outside, ring=ring, reduce=reduce)

    def load(self, outside: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the state of the latest checkpoint, as `Checkpoints.load` does."""
        state = super().load(outside)
        if state is not None:
            used, pace = state.pop(COST)
            self._meter.go_on(used)
            self._pace.go_on(*pace)
        return state
