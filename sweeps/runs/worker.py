"""The worker: does one run, in a process of its own.

    python -P -m sweeps.runs.worker RUN_DIR

It may be started any number of times, by any scheduler: a run that is done or held by another
process is left alone. Exit codes: 0 done, 1 failed (`error.json` says why), 75 held by another
process.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sparse_core.command import refuse_hidden, search_here
from sweeps.language import kinds, sources
from sweeps.language.hooks import Progress, takes_checkpoints
from sweeps.language.spec import load
from sweeps.runs import prolonging, provenance
from sweeps.store.directory import RunDir
from sweeps.store.pace import Pace
from sweeps.store.validity import fault_of
from sweeps.trackers.beside import trackers

DONE, FAILED, BUSY = 0, 1, 75
PROGRESS_INTERVAL = 0.5

MINUTES = "DST_CHECKPOINT_MINUTES"
"""Environment variable: minutes between two checkpoints of a run."""

EVERY = 5.0
"""Minutes between them unless it says otherwise."""


def command(run: RunDir) -> list[str]:
    """Return the command that starts a worker; the current folder hides none of our packages."""
    return [sys.executable, "-P", "-m", "sweeps.runs.worker", str(run.path)]


def execute(run: RunDir, observer: Progress | None = None) -> int:
    """Do a run unless it is done or held, and write its result or its error.

    Args:
        run: A prepared run directory.
        observer: Called with the fraction done and the runner's numbers, besides the progress file.

    Returns:
        `DONE`, `FAILED` or `BUSY`.
    """
    with run.lock() as taken:
        if not taken:
            return BUSY
        if run.result() is not None:
            _tidy(run)
            return DONE
        attempt = run.begin()
        with trackers(run.path):
            return _attempt(run, attempt, observer)


def _attempt(run: RunDir, attempt: int, observer: Progress | None) -> int:
    reporter = _Reporter(run, observer)
    try:
        run.finish(_run(run, attempt, reporter))
        _tidy(run)
    except (Exception, SystemExit) as error:  # the one place: whatever ends a run is recorded
        run.fail(
            {
                "type": type(error).__name__,
                "input": isinstance(error, InputError),
                "message": str(error),
                "traceback": traceback.format_exc(),
                "attempt": attempt,
                "done": reporter.done,
            }
        )
        return FAILED
    return DONE


def _run(run: RunDir, attempt: int, reporter: _Reporter) -> dict[str, Any]:
    record = run.record()
    setup = provenance.Meter()
    origin = provenance.describe()
    spec = load(kinds.spec_type(record["spec_type"]), record["spec"])
    runner = kinds.runner(record["runner"])
    minutes = checkpoint_minutes()
    if changed := sources.changed(record, spec):
        raise InputError(
            f"{changed[0]}: has changed since this run was planned; the same command again makes "
            "runs of what it is now"
        )
    _limit_torch(origin["threads"])
    origin["setup_s"] = setup.read()["wall_s"]
    origin["start_cpu_s"] = round(time.process_time(), 3)
    meter = provenance.Meter()
    reporter(0.0, {})
    more: dict[str, Any] = {}
    shorter = prolonging.shorter_one(run, record)
    keep = prolonging.keeps(record)
    if takes_checkpoints(runner) and (minutes > 0 or keep or shorter is not None):
        from sweeps.runs.resuming import Costed

        key = _made_by(record, origin["versions"])
        costed = Costed(
            run.checkpoint, minutes or math.inf, key, keep, run.output, meter, reporter.pace
        )
        if shorter is not None:
            theirs = _made_by(shorter.record, origin["versions"])
            costed.prolong(shorter.folder.checkpoint, theirs, shorter.spec.part_of(spec) or 1.0)
        more["checkpoints"] = costed
    result = runner(spec, run.output, reporter, **more)
    used = meter.read()
    if not isinstance(result, dict):
        raise TypeError(f"the runner must return a dict, not {type(result).__name__}")
    if fault := fault_of(result):
        raise ValueError(f"the runner's result: {fault}")
    identity = {key: record[key] for key in ("run_id", "kind", "spec")}
    if shorter is not None:
        origin["prolongs"] = shorter.record["run_id"]
    if "sources" in record:
        origin["sources"] = sources.origin(record["sources"])
    origin |= {**used, "attempt": attempt, "finished": time.time(), "pace": reporter.pace.points}
    return {**result, **identity, "provenance": origin}


def checkpoint_minutes() -> float:
    """Return the minutes between two checkpoints of a run, as the environment says; 0: none.

    Raises:
        InputError: If it says no such number.
    """
    value = os.environ.get(MINUTES, "")
    try:
        minutes = float(value or EVERY)
    except ValueError:
        minutes = math.nan
    if not 0 <= minutes < math.inf:
        raise InputError(
            f"{MINUTES}={value!r}: must be a number of minutes, at least 0", field=MINUTES
        )
    return minutes


def _tidy(run: RunDir) -> None:
    """Remove a finished run's checkpoints, unless its end is to be kept."""
    if not prolonging.keeps(run.record()):
        shutil.rmtree(run.checkpoint, ignore_errors=True)


def _made_by(record: Mapping[str, Any], versions: Mapping[str, Any]) -> str:
    """Return what the run is, and by which code and libraries it is done."""
    made_by = {"spec": record["spec"], "versions": versions, "code": provenance.source_digest()}
    return json.dumps(made_by, sort_keys=True)


def _limit_torch(threads: int) -> None:
    """Keep torch, if it is loaded, to the threads that the environment gives this process."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


class _Reporter:
    """The progress callable that a runner is given: writes the progress file, but not too often.

    Attributes:
        done: The largest fraction that the runner said was done.
        pace: CPU seconds against that fraction.
    """

    def __init__(self, run: RunDir, observer: Progress | None) -> None:
        self.done = 0.0
        self.pace = Pace()
        self._run = run
        self._observer = observer
        self._started = time.time()
        self._next = 0.0

    def __call__(self, done: float, numbers: Mapping[str, float]) -> None:
        now = time.monotonic()
        part = min(max(float(done), 0.0), 1.0)
        self.done = max(self.done, part)
        self.pace.note(self.done)
        if now >= self._next or done >= 1:
            self._next = now + PROGRESS_INTERVAL
            self._run.report_progress(
                {
                    "done": part,
                    "numbers": {
                        name: float(value)
                        for name, value in numbers.items()
                        if math.isfinite(value)
                    },
                    "started": self._started,
                    "time": time.time(),
                }
            )
        if self._observer is not None:
            self._observer(done, numbers)


def main() -> int:
    """Do the run whose directory is the only argument."""
    if len(sys.argv) != 2:
        print("usage: python -m sweeps.runs.worker RUN_DIR", file=sys.stderr)
        return 2
    run = RunDir(Path(sys.argv[1]))
    try:
        refuse_hidden()
        search_here()
        run.record()
    except InputError as error:
        print(f"sweeps.runs.worker: {error}", file=sys.stderr)
        return 2
    code = execute(run)
    if code == FAILED:
        print((run.error() or {}).get("traceback", "failed"), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
