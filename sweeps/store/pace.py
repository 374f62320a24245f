"""How fast a run went: CPU seconds against the fraction that was done, noted as it reports."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeps.store.validity import is_curve

Floats = npt.NDArray[np.float64]

POINTS = 100
"""Points that are kept; where there are more, every second one goes."""

FROM_START = 0.05
"""A pace that begins later says nothing of the run's beginning."""


class Pace:
    """Notes CPU seconds of this process as a run goes on.

    Attributes:
        points: Fraction done and CPU seconds since the first, both ascending.
    """

    def __init__(self) -> None:
        self.points: list[list[float]] = []
        self._started = time.process_time()
        self._least = 0.0

    def note(self, done: float) -> None:
        """Note that a fraction is done; seconds count from the first."""
        if not self.points:
            self._started = time.process_time()
        if self.points and done - self.points[-1][0] <= self._least:
            return
        self.points.append([round(done, 5), round(time.process_time() - self._started, 3)])
        if len(self.points) > POINTS:
            self.points = self.points[::2]
            self._least = 1 / POINTS

    def so_far(self) -> tuple[list[list[float]], float, float]:
        """Return the points, how far apart they are at least, and the CPU seconds until now."""
        return [*self.points], self._least, time.process_time() - self._started

    def go_on(
        self, points: list[list[float]], least: float, seconds: float, part: float = 1.0
    ) -> None:
        """Go on from what was so far in an earlier process.

        Args:
            points: As `so_far` returned them.
            least: As there.
            seconds: As there.
            part: What part of this run the other one was.
        """
        self.points = [[round(part * done, 5), spent] for done, spent in points]
        self._least = least
        self._started = time.process_time() - seconds


def seconds_at(x: Floats, origin: Mapping[str, Any]) -> Floats | None:
    """Return the CPU seconds that a run took up to each point of its curve.

    Args:
        x: `(points,)`, ascending; the last is where the run ended, 0 where it began.
        origin: Its provenance.

    Returns:
        `(points,)`, interpolated; None if the pace is not known from the beginning.
    """
    pace = origin.get("pace")
    if not pace or not is_curve(pace) or not len(x) or x[-1] <= 0 or pace[0][0] > FROM_START:
        return None
    done, seconds = np.asarray(pace, dtype=float).T
    found: Floats = np.interp(x / x[-1] * done[-1], done, seconds)
    return found
