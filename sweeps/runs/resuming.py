"""Checkpoints of a run, and what it had cost until each, which its attempts add up."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparse_core.checkpoints import Checkpoints
from sparse_core.checks import InputError
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
        keep: As there.
        output: What the run writes into; what an attempt left there goes if its checkpoint cannot
            be used, for the run begins anew.
        meter: Measures the run.
        pace: Notes how fast it goes.
    """

    def __init__(
        self,
        folder: Path,
        minutes: float,
        key: str,
        keep: bool,
        output: Path,
        meter: Meter,
        pace: Pace,
    ) -> None:
        super().__init__(folder, minutes, key, keep)
        self._left = list(output.iterdir()) if output.is_dir() else []
        self._meter = meter
        self._pace = pace
        self._part: float | None = None

    def prolong(self, folder: Path, key: str, part: float) -> None:
        """Begin where a shorter run has ended, as `Checkpoints.begin_with` does.

        Args:
            folder: The shorter run's checkpoints.
            key: The shorter run's.
            part: What part of this run it is.
        """
        self.begin_with(folder, key)
        self._part = part

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
        """Return the state of the latest checkpoint, as `Checkpoints.load` does.

        Raises:
            InputError: If the run is to begin where a shorter one has ended, and cannot.
        """
        state = super().load(outside)
        if state is not None:
            used, (points, least, seconds) = state.pop(COST)
            part = self._part if self.others and self._part is not None else 1.0
            self._meter.go_on(used)
            self._pace.go_on(points, least, seconds, part)
        elif self._part is not None:
            raise InputError(
                "prolong: the shorter run's checkpoint is damaged, or of other code or libraries; "
                "without --prolong the run begins from zero",
                field="prolong",
            )
        else:
            for left in self._left:
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)
        return state
