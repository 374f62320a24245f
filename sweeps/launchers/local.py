"""The local launcher: a pool of slots, each bringing one run after the other to its end."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence

from sparse_core.checks import InputError
from sweeps.launchers.attempts import Attempts
from sweeps.launchers.environment import worker_environment
from sweeps.launchers.forking import Servers
from sweeps.launchers.interrupts import deaf_to_interrupts, terminate_as_interrupt
from sweeps.launchers.options import Options
from sweeps.store.directory import RunDir, State

WATCH = 0.25


def launch(runs: Sequence[RunDir], options: Options, watch: Callable[[], None]) -> None:
    """Bring every run to its end: done or failed.

    Args:
        runs: Prepared run directories; done ones are skipped, failed ones are run again.
        options: How to launch.
        watch: Called again and again from this thread while runs are going on, and once at the end.

    Raises:
        InputError: If there are settings of another launcher.
        KeyboardInterrupt: On Ctrl-C or SIGTERM, after all workers were stopped; their runs are
            pending again.
    """
    if options.address is not None or options.settings:
        name = "launcher_options" if options.address is None else "address"
        raise InputError(f"{name}: launcher 'local' takes none, only others do", field=name)
    pool = _Pool(runs, options)
    slots = [_Slot(pool, number) for number in range(min(options.slots, len(runs)))]
    with terminate_as_interrupt():
        try:
            for slot in slots:
                slot.start()
            while alive := [slot for slot in slots if not slot.ended.is_set()]:
                alive[0].ended.wait(WATCH)
                watch()
        except BaseException:
            pool.stopping.set()
            with deaf_to_interrupts():
                for slot in slots:
                    if slot.ident is not None:
                        slot.ended.wait()
            raise
        finally:
            pool.close()
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
    """The runs left to do."""

    def __init__(self, runs: Sequence[RunDir], options: Options) -> None:
        self.stopping = threading.Event()
        self.faults: list[OSError] = []
        environment = worker_environment(options.threads, os.environ)
        self._servers = Servers(environment, self.stopping) if options.forks else None
        self._attempts = Attempts(
            environment, options.timeout, options.retries, self.stopping, servers=self._servers
        )
        self._todo: queue.SimpleQueue[RunDir] = queue.SimpleQueue()
        for run in runs:
            if run.state() is State.FAILED:
                run.forget_error()
            self._todo.put(run)

    def close(self) -> None:
        """End what is left once all slots have ended."""
        if self._servers is not None:
            self._servers.close()

    def work(self) -> None:
        """Take runs until none is left."""
        while not self.stopping.is_set():
            try:
                self._attempts.bring_to_an_end(self._todo.get_nowait())
            except queue.Empty:
                return
            except OSError as fault:
                self.faults.append(fault)
                self.stopping.set()
