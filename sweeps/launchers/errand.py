"""An errand: a run to bring to its end on whatever machine a scheduler chooses.

All machines see the runs' folders under the same paths, and have the packages installed. An errand
can be done any number of times and in two places at once: a run that is done is left alone, one
that another process holds is waited for. The process that does an errand only watches; the run is a
child of it that outlives it.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeps.launchers.attempts import ORPHAN_POLL, Attempts
from sweeps.launchers.environment import worker_environment
from sweeps.launchers.options import Options
from sweeps.store.directory import RunDir

CARRIED = ("DST_", "SPARSE_CORE_", "WANDB_", "MLFLOW_", "PYTHONPATH")
SECRET = ("KEY", "TOKEN", "PASSWORD", "SECRET")


@dataclass(frozen=True)
class Errand:
    """What to do where.

    Attributes:
        run: The run's directory, absolute.
        folder: Where the run starts; modules of the user's own are found there.
        stop: A file; once it is there the run is stopped.
        threads: Threads of the run.
        timeout: Seconds after which the run is killed and has failed; None is never.
        retries: How often the run is started again after a signal killed it.
        environment: Variables that the run has besides those of the machine.
    """

    run: str
    folder: str
    stop: str
    threads: int = 1
    timeout: float | None = None
    retries: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the errand is called in a scheduler's lists."""
        return f"dst-{Path(self.run).name}"


def errand(run: RunDir, stop: Path, options: Options) -> Errand:
    """Return the errand of bringing a run to its end.

    Args:
        run: A prepared run directory.
        stop: The file that will say when to stop.
        options: How to launch.
    """
    return Errand(
        run=str(run.path.absolute()),
        folder=str(Path.cwd()),
        stop=str(stop.absolute()),
        threads=options.threads,
        timeout=options.timeout,
        retries=options.retries,
        environment=carried(os.environ),
    )


def carried(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that runs are to have elsewhere too; no secrets, which would be sent."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(CARRIED) and not any(word in name for word in SECRET)
    }


def do(errand: Errand) -> str:
    """Bring a run to its end: done, failed or stopped.

    Returns:
        Why this machine can do no run at all, in one line; else nothing.
    """
    run = RunDir(Path(errand.run))
    where = platform.node()
    if not (run.path / "spec.json").exists():
        return f"{where} does not see {errand.run!r}: all machines must share the runs' folder"
    inherited = {**os.environ, **errand.environment}
    folder = Path(errand.folder)
    environment = worker_environment(errand.threads, inherited, folder)
    stop = _StopFile(Path(errand.stop))
    try:
        attempts = Attempts(environment, errand.timeout, errand.retries, stop, folder=folder)
        attempts.bring_to_an_end(run)
    except OSError as error:
        said = f"{error.strerror}: {error.filename!r}" if error.filename else str(error.strerror)
        return f"{where}: {said}"
    return ""


class _StopFile:
    """Says to stop once a file is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0.0
        self._seen = False

    def is_set(self) -> bool:
        """Return whether to stop now; the disk is asked now and then only."""
        if not self._seen and time.monotonic() >= self._next:
            self._next = time.monotonic() + ORPHAN_POLL
            self._seen = self._path.exists()
        return self._seen

    def wait(self, timeout: float) -> None:
        """Sleep for so many seconds."""
        time.sleep(timeout)
