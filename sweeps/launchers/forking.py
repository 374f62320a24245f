"""Runs as children of fork servers, which have imported what their kind of run needs.

There is one server for each runner, started when the first run asks for it. One that cannot serve
is done without: its runs start in fresh processes. One that dies is started again; its children go
on, and whether they still live is seen by the locks of their runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

from sweeps.runs import worker
from sweeps.runs.forkserver import LONGEST, READY
from sweeps.store.directory import RunDir

POLL = 0.05
LOOK = 0.2


class Forked:
    """A run in a child of a server; like `subprocess.Popen`, as far as launchers need it.

    Attributes:
        pid: Its process, which leads a session of its own.
    """

    def __init__(self, run: RunDir, pid: int, status: int) -> None:
        self.pid = pid
        self._run = run
        self._status = status
        self._code: int | None = None
        self._alone = False

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: If the child goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._code is None:
            left = LOOK if deadline is None else max(0.0, deadline - time.monotonic())
            self._look(min(left, LOOK))
            if self._code is None and deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(str(self._run.path), timeout or 0.0)
        return self._code

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._status)

    def _look(self, seconds: float) -> None:
        if not self._alone:
            said = _read(self._status, seconds)
            if said is not None and said[0] == "code":
                self._code = said[1]
            self._alone = said is not None and said[0] == "end"
        elif self._run.running():
            time.sleep(seconds)
        else:
            self._code = self._ending()

    def _ending(self) -> int:
        """Return how a child has ended whose server died before it."""
        if self._run.result() is not None:
            return worker.DONE
        return worker.FAILED if self._run.error() is not None else -signal.SIGKILL


class Servers:
    """The fork servers of a sweep.

    Args:
        environment: Theirs, and that of their children.
        stopping: Is set when nothing is to be started any more.
    """

    def __init__(self, environment: Mapping[str, str], stopping: threading.Event) -> None:
        self._environment = dict(environment)
        self._stopping = stopping
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._servers: dict[str, _Server | None] = {}

    def start(self, run: RunDir, log: int) -> Forked | None:
        """Start a run; None: there is no server that can.

        Args:
            run: The run.
            log: Descriptor of the file for what it prints.

        Raises:
            OSError: If no process can be started.
        """
        runner = str(run.record()["runner"])
        with self._lock:
            lock = self._locks.setdefault(runner, threading.Lock())
        for _ in range(2):  # a server that has died since the last run is started again
            with lock:
                if runner not in self._servers:
                    self._servers[runner] = self._make(runner)
                server = self._servers[runner]
                if server is None:
                    return None
                child = _born(run, server.ask(run, log))
                if child is not None:
                    return child
                server.end()
                del self._servers[runner]
        return None

    def close(self) -> None:
        """End all servers; nothing may be started any more."""
        for server in self._servers.values():
            if server is not None:
                server.end()
        self._servers.clear()

    def _make(self, runner: str) -> _Server | None:
        server = _Server(runner, self._environment)
        if server.is_ready(self._stopping):
            return server
        server.end()
        return None


class _Server:
    """One server's process."""

    def __init__(self, runner: str, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = str(theirs.fileno())
        with theirs, contextlib.ExitStack() as undo:
            undo.enter_context(ours)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sweeps.runs.forkserver", number, runner],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            undo.pop_all()
        self._channel = ours

    def is_ready(self, stopping: threading.Event) -> bool:
        """Wait until the server has imported all it needs; return whether it can serve."""
        while not select.select([self._channel], [], [], POLL)[0]:
            if stopping.is_set():
                return False
        return self._channel.recv(LONGEST) == READY

    def ask(self, run: RunDir, log: int) -> int:
        """Ask for a run; return the descriptor on which to read what becomes of it."""
        ours, theirs = os.pipe()
        message = json.dumps({"run": str(run.path)}).encode()
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self._channel, [message], [log, theirs])
        finally:
            os.close(theirs)
        return ours

    def end(self) -> None:
        """End the server; its children go on."""
        self._channel.close()
        self._process.kill()
        self._process.wait()


def _born(run: RunDir, status: int) -> Forked | None:
    """Return the child that a server was asked for; None: the server has died over it."""
    said = None
    while said is None:
        said = _read(status, POLL)
    if said[0] == "pid":
        return Forked(run, said[1], status)
    os.close(status)
    if said[0] == "errno":
        raise OSError(said[1], os.strerror(said[1]))
    return None


def _read(status: int, seconds: float) -> tuple[str, int] | None:
    """Return the next line of a status pipe, `("end", 0)` at its end, None if there is none yet."""
    if not select.select([status], [], [], seconds)[0]:
        return None
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(status, 1)
        if not byte:
            return "end", 0
        line += byte
    what, _, number = line.decode().partition(" ")
    return what, int(number)
