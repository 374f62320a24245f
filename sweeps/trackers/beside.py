"""Trackers beside a run: processes that follow its files, and that nothing waits for long."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sweeps.trackers.choice import TRACK

PATIENCE = "DST_TRACK_PATIENCE"
"""Environment variable: seconds that trackers have when the run has ended, 60 if it is not set."""


@contextlib.contextmanager
def trackers(folder: Path) -> Iterator[None]:
    """Let the trackers that `DST_TRACK` names follow a run while the context lasts.

    A tracker that fails, or that does not come to an end, costs a line on stderr.

    Args:
        folder: The run's directory, or that of a report, which is there.
    """
    names = list(filter(None, os.environ.get(TRACK, "").split(",")))
    following = {name: child for name in names if (child := _start(name, folder)) is not None}
    try:
        yield
    finally:
        _end(following)


def _start(name: str, folder: Path) -> subprocess.Popen[bytes] | None:
    command = [sys.executable, "-P", "-m", "sweeps.trackers.follow", name, str(folder)]
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    except OSError as error:
        _say(name, str(error.strerror))
        return None


def _end(following: dict[str, subprocess.Popen[bytes]]) -> None:
    for child in following.values():
        assert child.stdin is not None
        child.stdin.close()
    patience = float(os.environ.get(PATIENCE) or 60)
    deadline = time.monotonic() + patience
    for name, child in following.items():
        try:
            code = child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            _say(name, f"was not done {patience:g} s after the run, and was stopped")
            continue
        if code < 0:
            _say(name, f"was killed by signal {-code}")


def _say(name: str, text: str) -> None:
    print(f"tracker {name}: {text}", file=sys.stderr, flush=True)
