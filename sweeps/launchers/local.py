"""The local launcher: a pool of slots, each running one fresh child process after the other.

Every worker leads a process group of its own, so that it outlives a killed driver (it goes on under
its lock, and the next driver waits for it) and dies as a whole, children included, when it is
stopped.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

from sparse_core.checks import InputError
from sweeps import worker
from sweeps.launchers.environment import worker_environment
from sweeps.provenance import available_cpus
from sweeps.store import RunDir, State

POLL = 0.05
WATCH = 0.25
ORPHAN_POLL = 0.2
GRACE = 5.0


@dataclass(frozen=True)
class Options:
    """How runs are launched.

    Attributes:
        jobs: Runs at a time; None is as many as there are CPUs for.
        threads: Threads of each run.
        timeout: Seconds after which a run is killed and has failed; None is never.
        retries: How often a run is started again after a signal killed it.
    """

    jobs: int | None = None
    threads: int = 1
    timeout: float | None = None
    retries: int = 1

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise InputError(f"jobs={self.jobs!r}: must be an integer of at least 1", field="jobs")
        if self.threads < 1:
            raise InputError(
                f"threads={self.threads!r}: must be an integer of at least 1", field="threads"
            )
        if self.timeout is not None and not self.timeout > 0:
            raise InputError(
                f"timeout={self.timeout!r}: must be a positive number of seconds", field="timeout"
            )
        if self.retries < 0:
            raise InputError(
                f"retries={self.retries!r}: must be an integer of at least 0", field="retries"
            )

    @property
    def slots(self) -> int:
        """Runs at a time."""
        return self.jobs or max(1, available_cpus() // self.threads)


def launch(runs: Sequence[RunDir], options: Options, watch: Callable[[], None]) -> None:
    """Bring every run to its end: done or failed.

    Args:
        runs: Prepared run directories; done ones are skipped, failed ones are run again.
        options: How to launch.
        watch: Called again and again from this thread while runs are going on, and once at the end.

    Raises:
        KeyboardInterrupt: On Ctrl-C or SIGTERM, after all workers were stopped; their runs are
            pending again.
    """
    pool = _Pool(runs, options)
    slots = [_Slot(pool, number) for number in range(min(options.slots, len(runs)))]
    with _terminate_as_interrupt():
        try:
            for slot in slots:
                slot.start()
            while alive := [slot for slot in slots if not slot.ended.is_set()]:
                alive[0].ended.wait(WATCH)
                watch()
        except BaseException:
            pool.stopping.set()
            with _deaf_to_interrupts():
                for slot in slots:
                    if slot.ident is not None:
                        slot.ended.wait()
            raise
    if pool.faults:
        raise pool.faults[0]
    watch()


class _Slot(threading.Thread):
    """A thread that takes runs, and says itself when it has ended.

    `Thread.join` cannot tell: up to Python 3.12, one that Ctrl-C interrupts declares a thread that
    is still at work to have stopped.
    """

    def __init__(self, pool: _Pool, number: int) -> None:
        super().__init__(name=f"slot-{number}")
        self.ended = threading.Event()
        self._pool = pool

    def run(self) -> None:
        """Work until nothing is left to do."""
        try:
            self._pool.work()
        finally:
            self.ended.set()


class _Pool:
    """The runs left to do, and what each slot does with one."""

    def __init__(self, runs: Sequence[RunDir], options: Options) -> None:
        self.stopping = threading.Event()
        self.faults: list[OSError] = []
        self._options = options
        self._environment = worker_environment(options.threads, os.environ)
        self._todo: queue.SimpleQueue[RunDir] = queue.SimpleQueue()
        for run in runs:
            if run.state() is State.FAILED:
                run.forget_error()
            self._todo.put(run)

    def work(self) -> None:
        """Take runs until none is left."""
        while not self.stopping.is_set():
            try:
                self._bring_to_an_end(self._todo.get_nowait())
            except queue.Empty:
                return
            except OSError as fault:
                self.faults.append(fault)
                self.stopping.set()

    def _bring_to_an_end(self, run: RunDir) -> None:
        retries = self._options.retries
        while not self.stopping.is_set() and run.result() is None:
            if run.running():
                self.stopping.wait(ORPHAN_POLL)
                continue
            try:
                code = self._attempt(run)
            except subprocess.TimeoutExpired as error:
                run.fail({"type": "Timeout", "message": f"no result after {error.timeout:g} s"})
                return
            if self.stopping.is_set():
                return
            if code < 0 and retries > 0:
                retries -= 1
            elif code != worker.BUSY and run.result() is None:
                if run.error() is None:
                    run.fail({"type": "Exit", "message": _ending(code)})
                return

    def _attempt(self, run: RunDir) -> int:
        """Run one child process to its end and return its exit code, negative for a signal."""
        with run.log.open("ab") as log:
            child = subprocess.Popen(
                worker.command(run),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        try:
            return self._wait(child)
        finally:
            _signal_group(child, signal.SIGKILL)
            child.wait()

    def _wait(self, child: subprocess.Popen[bytes]) -> int:
        timeout = self._options.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.stopping.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(POLL)
            if timeout is not None and deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(child.args, timeout)
        _signal_group(child, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(GRACE)
        return -signal.SIGKILL


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the child and to all that it has started, some of which may outlive it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _ending(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code} and without a result"


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling(interrupt, signal.SIGTERM):
        yield


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Finish what is within, which takes `GRACE` seconds at most, in spite of further signals."""
    with _handling(signal.SIG_IGN, signal.SIGINT), _handling(signal.SIG_IGN, signal.SIGTERM):
        yield


@contextlib.contextmanager
def _handling(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers, number: signal.Signals
) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)
