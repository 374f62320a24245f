"""Attempts at a run: one child process after the other, until the run is done or has failed.

A child is forked by a server that has imported what runs need (`sweeps.launchers.forking`), or is
a fresh process; the runs are equal.

Every worker leads a process group of its own, so that it outlives whoever started it (it goes on
under its lock, and the next one who wants the run waits for it) and dies as a whole, children
included, when it is stopped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from sweeps.launchers.forking import Forked, Servers
from sweeps.runs import worker
from sweeps.store.directory import RunDir

POLL = 0.05
ORPHAN_POLL = 0.2
GRACE = 5.0

Child = subprocess.Popen[bytes] | Forked


class Stop(Protocol):
    """Says when to stop; a `threading.Event` is one."""

    def is_set(self) -> bool:
        """Return whether to stop now."""
        ...

    def wait(self, timeout: float, /) -> object:
        """Sleep for so many seconds, or until it is time to stop."""
        ...


class Attempts:
    """Brings runs to their ends.

    Args:
        environment: Of the child processes.
        timeout: Seconds after which a run is killed and has failed; None is never.
        retries: How often a run is started again after a signal killed it.
        stop: Once it is set, what is going on is stopped and nothing more is started.
        servers: They fork the child processes; None: each is a fresh one.
        folder: Where the child processes start; None: here.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        timeout: float | None,
        retries: int,
        stop: Stop,
        *,
        servers: Servers | None = None,
        folder: Path | None = None,
    ) -> None:
        self._environment = dict(environment)
        self._timeout = timeout
        self._retries = retries
        self._stop = stop
        self._servers = servers
        self._folder = folder

    def bring_to_an_end(self, run: RunDir) -> None:
        """Return once the run is done or failed, by whomever, or it is time to stop.

        Raises:
            OSError: If a process could not be started or a file not be written.
        """
        retries = self._retries
        while not self._stop.is_set() and run.result() is None:
            if run.running():
                self._stop.wait(ORPHAN_POLL)
                continue
            try:
                code = self._attempt(run)
            except subprocess.TimeoutExpired as error:
                run.fail({"type": "Timeout", "message": f"no result after {error.timeout:g} s"})
                return
            if self._stop.is_set():
                return
            if code < 0 and retries > 0:
                retries -= 1
            elif code != worker.BUSY and run.result() is None:
                if run.error() is None:
                    run.fail({"type": "Exit", "message": _ending(code)})
                return
        _tidy(run)

    def _attempt(self, run: RunDir) -> int:
        """Run one child process to its end and return its exit code, negative for a signal."""
        child = self._start(run)
        try:
            return self._wait(child)
        finally:
            _signal_group(child, signal.SIGKILL)
            child.wait()
            if isinstance(child, Forked):
                child.close()

    def _start(self, run: RunDir) -> Child:
        with run.log.open("ab") as log:
            forked = self._servers.start(run, log.fileno()) if self._servers is not None else None
            return forked or subprocess.Popen(
                worker.command(run),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )

    def _wait(self, child: Child) -> int:
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while not self._stop.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(POLL)
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(child.pid), self._timeout or 0.0)
        _signal_group(child, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(GRACE)
        return -signal.SIGKILL


def _signal_group(child: Child, number: signal.Signals) -> None:
    """Send a signal to the child and to all that it has started, some of which may outlive it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _ending(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code} and without a result"


def _tidy(run: RunDir) -> None:
    """Remove the checkpoints of a run that was killed when its result was just written."""
    if run.checkpoint.exists() and run.result() is not None and not run.running():
        shutil.rmtree(run.checkpoint, ignore_errors=True)
