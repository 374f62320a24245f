"""How long runs will take, from what runs in the same store took."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sweeps.files import read_json
from sweeps.language import spec as specs
from sweeps.language.axes import METHOD
from sweeps.language.grid import Run
from sweeps.store.validity import is_number

WORK = ("steps", "epochs", "tasks")
"""Fields that a run's time is taken to be proportional to."""

SIMILAR = 4.0
"""Runs of so many times the work, or of that part of it, still say something about a run's time."""


@dataclass(frozen=True)
class Estimate:
    """How long a run will take.

    Attributes:
        seconds: Of wall time.
        guessed: Whether it comes from similar runs only, and not from the same with other seeds.
    """

    seconds: float
    guessed: bool


@dataclass(frozen=True)
class _Past:
    """What a run did, and the seconds that it took."""

    kind: str
    same: str
    fields: Mapping[str, Any]
    seconds: float


class Forecast:
    """What a store says about the time of runs.

    Args:
        runs_dir: The store; its grids, their trials and single runs all count.
    """

    def __init__(self, runs_dir: Path) -> None:
        self._past: dict[str, list[_Past]] = {}
        for past in _finished(runs_dir):
            self._past.setdefault(past.kind, []).append(past)

    def of(self, run: Run) -> Estimate | None:
        """Return how long a run will take; None if no run like it has finished.

        The same run of other seeds is the best source; then runs of the same task and method, then
        of the same task alone, both with about as much work.
        """
        spec = specs.plain(run.spec)
        of_kind = self._past.get(run.kind_name, [])
        same = [past.seconds for past in of_kind if past.same == _but_for_the_seed(spec)]
        if same:
            return Estimate(median(same), guessed=False)
        fields = specs.flatten(spec)
        for names in ((*run.kind.task, METHOD), run.kind.task):
            found = list(_similar(fields, names, of_kind))
            if found:
                return Estimate(median(found), guessed=True)
        return None


def _similar(
    fields: Mapping[str, Any], names: Sequence[str], past: Iterable[_Past]
) -> Iterator[float]:
    """Yield the seconds that runs with the same fields would have taken for this work."""
    for other in past:
        if all(other.fields.get(name) == fields.get(name) for name in names):
            ratio = _work(fields) / _work(other.fields)
            if 1 / SIMILAR <= ratio <= SIMILAR:
                yield ratio * other.seconds


def _work(fields: Mapping[str, Any]) -> float:
    values = (fields.get(name) for name in WORK)
    return math.prod(value for value in values if is_number(value) and value > 0)


def _finished(runs_dir: Path) -> Iterator[_Past]:
    for pattern in ("*/*/result.json", "*/*/*/result.json"):
        for path in runs_dir.glob(pattern):
            past = _read(path)
            if past is not None:
                yield past


def _read(path: Path) -> _Past | None:
    try:
        result = read_json(path) or {}
    except OSError:
        return None
    spec, origin = result.get("spec"), result.get("provenance")
    if not isinstance(spec, dict) or not isinstance(origin, dict):
        return None
    parts = (origin.get("wall_s"), origin.get("setup_s", 0.0))
    if not all(map(is_number, parts)):
        return None
    seconds = math.fsum(part for part in parts if is_number(part))
    return _Past(str(result.get("kind")), _but_for_the_seed(spec), specs.flatten(spec), seconds)


def _but_for_the_seed(spec: Mapping[str, Any]) -> str:
    return json.dumps({**spec, "seed": 0}, sort_keys=True)
