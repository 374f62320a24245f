"""What the files of a run say, as trackers are told it.

Files, the names of what they hold, and when it is there:

    progress.json           progress/<name>      while it goes on
    output/progress.json    <name>               lines of Stable-Baselines3's logger
    result.json             curve/<key>          at the end
                            final/<key>, density/<layer>, cost/<key>
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sweeps.language import kinds
from sweeps.language import spec as specs
from sweeps.language.kinds import Kind
from sweeps.store.directory import RunDir
from sweeps.store.validity import is_curve, is_number

STEPS = "time/total_timesteps"
FILES = ("spec.json", "result.json", "error.json", "log.txt")
REPORT = ("report.html", "table.csv", "runs.csv")

Point = tuple[int, dict[str, float]]


class Following:
    """The numbers that a run has written since the last look."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._places: dict[Path, int] = {}
        self._time: Any = None

    def points(self) -> Iterator[Point]:
        """Yield steps with numbers by name."""
        progress = self._run.progress()
        if progress is not None and progress.get("time") != self._time:
            self._time = progress.get("time")
            yield _progress(progress)
        for path in sorted(self._run.output.glob("**/progress.json")):
            yield from self._lines(path)

    def _lines(self, path: Path) -> Iterator[Point]:
        """Yield what is new in a file of lines; that of a task has its folder in its names."""
        place = self._places.get(path, 0)
        with path.open("rb") as file:
            file.seek(place)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._places[path] = place + len(whole)
        folder = path.parent.relative_to(self._run.output)
        for line in whole.splitlines():
            values = json.loads(line)
            numbers = {name: value for name, value in values.items() if is_number(value)}
            step = int(numbers.get(STEPS, 0))
            yield step, {(folder / name).as_posix(): value for name, value in numbers.items()}


def _progress(progress: Mapping[str, Any]) -> Point:
    """Return the numbers of a progress file, at environment steps or at thousandths of the run."""
    found: Any = progress.get("numbers")
    numbers = {k: v for k, v in dict(found or {}).items() if is_number(v)}
    done = progress.get("done")
    part = done if is_number(done) else 0.0
    step = int(numbers.get("steps", round(1000 * part)))
    named = {f"progress/{name}": value for name, value in numbers.items() if name != "steps"}
    return step, named | {"progress/done": part}


def config(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's spec by dotted field, with its kind."""
    return {"kind": record.get("kind"), **specs.flatten(record.get("spec", {}))}


def curves(record: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[Point]:
    """Yield the points of a result's curves: those that reports draw."""
    kind = _kind(record)
    keys = dict.fromkeys([kind.curve, *(panel[0] for panel in kind.panels)])
    for key in keys:
        found: Any = result
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        for x, y in found if is_curve(found) else ():
            yield round(x), {f"curve/{key}": y}


def summary(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a result by name."""
    said = {key: value for key, value in result.items() if key not in ("provenance", "spec")}
    numbers = {f"final/{key}": value for key, value in specs.flatten(said).items()}
    for layer in result.get("layers", ()):
        numbers[f"density/{layer['name']}"] = layer["active"] / max(1, layer["total"])
    numbers |= {f"cost/{key}": value for key, value in result.get("provenance", {}).items()}
    return {name: value for name, value in numbers.items() if is_number(value)}


def files(folder: Path) -> list[Path]:
    """Return what is worth keeping of a run, or of a report."""
    return [folder / name for name in (*FILES, *REPORT) if (folder / name).is_file()]


def _kind(record: Mapping[str, Any]) -> Kind:
    try:
        return kinds.find(str(record.get("kind")))
    except InputError:  # one that a grid defines
        return Kind(spec="", runner="")
