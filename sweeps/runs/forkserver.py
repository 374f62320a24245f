"""The fork server: imports what a kind of run needs once, then forks a child for each run.

    python -P -m sweeps.runs.forkserver FD RUNNER

FD is the server's end of a socket whose other end `sweeps.launchers.forking` holds. Each message on
it asks for a run, and brings two descriptors: the run's log, and a pipe for what becomes of it,

    pid NUMBER      written by the child, which leads a session of its own by then
    code NUMBER     written by the server: how the child has ended, negative for a signal
    errno NUMBER    instead of both: it could not be forked

RUNNER is a kind's runner. Its module is imported if it is one of this project's, and its function
`ahead`, if it has one, is called: it imports what runs import as they go. A module of the user's
own is imported in the child only. Before a fork there is one thread, and no random number has been
drawn, so that a run here equals one in a process of its own.

The server ends with its driver, when the socket closes. Its children go on.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

from sparse_core.command import PACKAGES, refuse_hidden, search_here
from sweeps.runs import worker

READY, UNUSABLE = b"ready", b"unusable"
"""The server's first message: whether it can serve."""

LONGEST = 1 << 16
"""Bytes of the longest message."""


def main() -> int:
    """Serve until the driver is gone; in a child, do the run."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    with channel:
        try:
            _import_ahead(sys.argv[2])
        except (Exception, SystemExit):  # a run by itself will say what is wrong
            channel.send(UNUSABLE)
            return worker.FAILED
        if threading.active_count() > 1:
            channel.send(UNUSABLE)
            return worker.FAILED
        gc.collect()
        gc.freeze()
        channel.send(READY)
        run = _Server(channel).serve()
    if run is None:
        return worker.DONE
    _end(_work(run))


def _import_ahead(runner: str) -> None:
    refuse_hidden()
    search_here()
    module_name = runner.partition(":")[0]
    if module_name.partition(".")[0] not in PACKAGES:
        return
    module = importlib.import_module(module_name)
    ahead = getattr(module, "ahead", None)
    if ahead is not None:
        ahead()


class _Server:
    """Forks, and says what becomes of the children."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._children: dict[int, int] = {}

    def serve(self) -> Path | None:
        """Return None once the driver is gone; in a child, return its run."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is not self._channel:
                        os.read(woken, LONGEST)
                        self._collect()
                        continue
                    message, descriptors, _, _ = socket.recv_fds(self._channel, LONGEST, 2)
                    if not message:
                        return None
                    log, status = descriptors
                    if self._fork(log, status):
                        for descriptor in (woken, wake, *self._children.values()):
                            os.close(descriptor)
                        return Path(json.loads(message)["run"])

    def _fork(self, log: int, status: int) -> bool:
        """Fork a child; return whether this is it."""
        try:
            child = os.fork()
        except OSError as error:
            _tell(status, "errno", error.errno or errno.EAGAIN)
            child = None
        if child == 0:
            _become_worker(log, status)
            return True
        os.close(log)
        if child is None:
            os.close(status)
        else:
            self._children[child] = status
        return False

    def _collect(self) -> None:
        for child in list(self._children):
            found, how = os.waitpid(child, os.WNOHANG)
            if found:
                status = self._children.pop(child)
                _tell(status, "code", os.waitstatus_to_exitcode(how))
                os.close(status)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Let a signal do no more than to wake the server."""


def _tell(status: int, what: str, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(status, f"{what} {number}\n".encode())


def _become_worker(log: int, status: int) -> None:
    """Make a forked child what a process is that was started by itself."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    numpy = sys.modules.get("numpy")
    if numpy is not None:  # Python seeds its own random numbers anew
        numpy.random.seed()
    _tell(status, "pid", os.getpid())
    os.close(status)


def _work(run: Path) -> int:
    sys.argv = [str(worker.__file__), str(run)]
    try:
        return worker.main()
    except BaseException:
        traceback.print_exc()
        return worker.FAILED


def _end(code: int) -> NoReturn:
    """Leave, without the tidying of what the server has imported."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
