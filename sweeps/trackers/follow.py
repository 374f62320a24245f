"""Follow a run, or show a report: the process of one tracker, which the worker starts.

    python -P -m sweeps.trackers.follow NAME FOLDER

It ends when its standard input is closed. It prints one line if it cannot go on, and nothing else,
whatever the tracker's library has to say.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

from sparse_core.checks import InputError
from sparse_core.command import search_here
from sweeps.files import read_json
from sweeps.store.directory import RunDir
from sweeps.trackers import reading
from sweeps.trackers.choice import FOLDER, Subject, Tracker, find

POLL = 0.5


def follow(name: str, folder: Path) -> None:
    """Show a run from now on, until nothing more comes; or a report.

    Args:
        name: The tracker.
        folder: The run's directory, or that of a report.
    """
    run = RunDir(folder)
    record = read_json(folder / "spec.json")
    tracker = find(name)(_subject(name, folder, record))
    if record is None:
        tracker.end({}, reading.files(folder), False)
        return
    following = reading.Following(run)
    going_on = True
    while going_on:
        going_on = not _closed(POLL)
        _log(tracker, following)
    result = run.result()
    if result is None:
        tracker.end({}, reading.files(folder), True)
        return
    for step, numbers in reading.curves(record, result):
        tracker.log(numbers, step)
    tracker.end(reading.summary(result), reading.files(folder), False)


def _log(tracker: Tracker, following: reading.Following) -> None:
    for step, numbers in following.points():
        if numbers:
            tracker.log(numbers, step)


def _subject(name: str, folder: Path, record: dict[str, object] | None) -> Subject:
    base = Path(os.environ.get(FOLDER) or folder.parent.parent / "tracking")
    place = base / name.replace(":", ".")
    place.mkdir(parents=True, exist_ok=True)
    if record is None:
        return Subject(f"{folder.name}-report", "report", folder.name, place)
    identity, kind = str(record["run_id"]), str(record["kind"])
    config = reading.config(record)
    title = f"{kind.rpartition(':')[2]} {identity}"
    return Subject(identity, title, folder.parent.name, place, config)


def _closed(seconds: float) -> bool:
    """Wait, and return whether whoever started this process has closed our standard input."""
    ready, _, _ = select.select([0], [], [], seconds)
    return bool(ready) and not os.read(0, 1)


def main() -> int:
    """Follow, quietly; 1 if that failed."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ours = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
    try:
        search_here()
        follow(name, folder)
    except (Exception, SystemExit) as error:  # whatever a tracker's library raises
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        said = " ".join(f"{kind}{error}".split()).rstrip(".")
        os.write(ours, f"tracker {name}: {said}; the run goes on without it\n".encode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
