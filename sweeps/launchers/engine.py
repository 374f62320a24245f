"""What Dask, Ray and Slurm have in common: errands go out, and the store says what came of them.

An engine is asked only which errands it is through with. If such a run has neither a result nor an
error, whatever carried it out has died (a node, a worker, a limit of time): it goes out again.
"""

from __future__ import annotations

import importlib.util
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sparse_core.checks import InputError
from sweeps.launchers.attempts import GRACE
from sweeps.launchers.errand import Errand, errand
from sweeps.launchers.interrupts import deaf_to_interrupts, terminate_as_interrupt
from sweeps.launchers.lost import SchedulerLost
from sweeps.launchers.options import Options
from sweeps.store.directory import RunDir, State

WATCH = 0.25
PATIENCE = 5.0
"""Seconds for which an address may be silent."""


class Engine(AbstractContextManager["Engine"], Protocol):
    """A scheduler, while it is open.

    Attributes:
        limit: Errands at a time; None: the scheduler sees to that itself.
        logs: Where it says what came of errands; empty: nowhere.
    """

    limit: int | None
    logs: str

    def submit(self, errands: Sequence[Errand]) -> None:
        """Send errands out."""
        ...

    def ended(self) -> Sequence[tuple[Errand, str]]:
        """Return the errands that it is through with since the last call.

        With each comes what `sweeps.launchers.errand.do` returned, or nothing if it never did.

        Raises:
            SchedulerLost: If it does not answer.
        """
        ...

    def cancel(self) -> None:
        """Begin no further errands."""
        ...


def drive(
    engine: Engine, runs: Sequence[RunDir], options: Options, watch: Callable[[], None]
) -> None:
    """Bring every run to its end: done or failed.

    Args:
        engine: What carries runs out.
        runs: Prepared run directories; done ones are skipped, failed ones are run again.
        options: How to launch.
        watch: Called again and again from this thread while runs are going on, and once at the end.

    Raises:
        InputError: If the scheduler is not there, or its machines cannot do runs.
        KeyboardInterrupt: On Ctrl-C or SIGTERM, after all runs were stopped; they are pending
            again.
        SchedulerLost: If it went away; its runs may be going on.
    """
    if options.start == "forkserver":
        raise InputError("start='forkserver': is for launcher 'local' only", field="start")
    todo = [run for run in runs if run.result() is None]
    for run in todo:
        if run.state() is State.FAILED:
            run.forget_error()
    if todo:
        with terminate_as_interrupt(), engine:
            _Drive(engine, todo, options).go(watch)
    watch()


class _Drive:
    """The runs that are left, and those that are out."""

    def __init__(self, engine: Engine, runs: Sequence[RunDir], options: Options) -> None:
        self._engine = engine
        self._options = options
        self._stop = runs[0].path.parent / f".stop-{uuid.uuid4().hex[:12]}"
        self._waiting = deque(runs)
        self._out: dict[str, RunDir] = {}
        self._lost: dict[str, int] = {}

    def go(self, watch: Callable[[], None]) -> None:
        """Send runs out and wait until all have ended."""
        try:
            while self._waiting or self._out:
                self._send()
                for errand, said in self._engine.ended():
                    self._look_at(errand, said)
                watch()
                if self._out:
                    time.sleep(WATCH)
        except SchedulerLost:
            raise
        except BaseException:
            with deaf_to_interrupts():
                self._end()
            raise

    def _send(self) -> None:
        limit = self._engine.limit
        room = len(self._waiting) if limit is None else limit - len(self._out)
        batch = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        errands = [errand(run, self._stop, self._options) for run in batch]
        self._out |= {errand.run: run for errand, run in zip(errands, batch, strict=True)}
        if errands:
            self._engine.submit(errands)

    def _look_at(self, errand: Errand, said: str) -> None:
        if said:
            raise InputError(said)
        run = self._out.pop(errand.run)
        if run.result() is not None or run.error() is not None:
            return
        if not run.running():
            self._lost[errand.run] = self._lost.get(errand.run, 0) + 1
        if self._lost.get(errand.run, 0) <= self._options.retries:
            self._waiting.append(run)
            return
        message = f"the process that watched it died in {self._lost[errand.run]} attempts"
        if self._engine.logs:
            message += f", see {self._engine.logs}"
        run.fail({"type": "Lost", "message": message})

    def _end(self) -> None:
        """Stop the runs that are out."""
        self._stop.touch()
        try:
            deadline = time.monotonic() + GRACE + 2.0
            while any(run.running() for run in self._out.values()):
                if time.monotonic() > deadline:
                    break
                time.sleep(WATCH)
            self._engine.cancel()
        finally:
            self._stop.unlink(missing_ok=True)


def need(launcher: str, module: str) -> None:
    """Check that a launcher's extra is installed.

    Raises:
        InputError: If it is not.
    """
    if importlib.util.find_spec(module) is None:
        raise InputError(
            f"launcher={launcher!r}: {module} is not installed: pip install 'dstrl[{launcher}]'",
            field="launcher",
        )


def knock(address: str, example: str) -> None:
    """Check that somebody listens at an address.

    Args:
        address: `host:port`, with or without a scheme.
        example: One that is well-formed, for the error.

    Raises:
        InputError: If nobody does, or the address has no port.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    said = f"address={address!r}"
    if not host or not port.isdecimal():
        raise InputError(f"{said}: must be such as {example}", field="address")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"{said}: nobody answers there: {error}", field="address") from error
