"""The store: one directory a run, in which every state survives a crash.

    <runs>/<grid>/grid.yaml   the grid, as it was when its runs were last asked for
    <runs>/<grid>/<run_id>/
        spec.json       what the run is: identity, kind, import strings, every field of its spec
        lock            held (POSIX `lockf`) by the process that runs it
        attempts.jsonl  one line for each start and each end
        progress.json   how far it is
        result.json     its result, and what displays need of it in brief.json, or
        error.json      why there is none: the error's type, whether it is one of input, its message
        log.txt         what it printed
        output/         what the runner wrote, anew for each attempt that begins from zero
        checkpoint/     what an attempt that was stopped had come to (`sparse_core.checkpoints`)

A run is *done* if and only if a valid `result.json` is there, and *running* if and only if the lock
is held; else it has *failed* if there is an `error.json`, and is *pending* if there is none; it is
*unreadable* if its files may not or cannot be read. Files that matter are written to a temporary
file in the same directory, synced and renamed. To look at a run writes nothing.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sweeps.files import FULL, append_line, read_json, write_json
from sweeps.store.brief import Brief, brief_of, read_brief, write_brief
from sweeps.store.validity import fault_of, has_provenance, same_run

BOOKKEEPING = {"spec.json", "lock", "attempts.jsonl", "progress.json", "error.json", "output"}
"""What there is of a run that came to nothing, its output being empty."""

OWN_FILES = BOOKKEEPING | {"result.json", "brief.json", "log.txt", "checkpoint"}

_held: set[Path] = set()


class State(enum.StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Look:
    """What one look at a run has shown.

    Attributes:
        state: Where it stands.
        result: Its result, if it is done.
        message: Why it has failed or cannot be read, in one line; else empty.
    """

    state: State
    result: dict[str, Any] | None = None
    message: str = ""


@dataclass(frozen=True)
class Glance:
    """What a glance at a run has shown: as `Look`, with no more of its result than the brief."""

    state: State
    brief: Brief | None = None
    message: str = ""


class RunDir:
    """One run's directory. Reading tolerates files that are absent or broken; writing is atomic.

    Files that are there but cannot be read, and files that cannot be written, are an OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def output(self) -> Path:
        """The folder that belongs to the runner."""
        return self.path / "output"

    @property
    def checkpoint(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.path / "checkpoint"

    @property
    def log(self) -> Path:
        """The file that holds what the run printed."""
        return self.path / "log.txt"

    def record(self) -> dict[str, Any]:
        """Return what the run is.

        Raises:
            InputError: If the directory holds no run.
        """
        record = read_json(self.path / "spec.json")
        if record is None:
            raise InputError(f"run directory {str(self.path)!r}: it has no readable spec.json")
        return record

    def result(self) -> dict[str, Any] | None:
        """Return the result, or None if there is no valid one of this very run."""
        result = read_json(self.path / "result.json")
        if result is None or fault_of(result) or not has_provenance(result):
            return None
        return result if same_run(result, read_json(self.path / "spec.json")) else None

    def error(self) -> dict[str, Any] | None:
        """Return why the last attempt failed."""
        return read_json(self.path / "error.json")

    def progress(self) -> dict[str, Any] | None:
        """Return how far the run is: `done` in [0, 1], `numbers`, `started` and `time`."""
        return read_json(self.path / "progress.json")

    def attempts(self) -> int:
        """Return how often the run was started."""
        try:
            lines = (self.path / "attempts.jsonl").read_bytes().splitlines()
        except OSError:
            return 0
        return sum(b'"start"' in line for line in lines)

    def state(self) -> State:
        """Return where the run stands."""
        return self.glance().state

    def glance(self) -> Glance:
        """Return the same as `look`, faster: the brief of a result is read in place of it."""
        brief = read_brief(self.path)
        if brief is not None:
            return Glance(State.DONE, brief)
        seen = self.look()
        return Glance(
            seen.state, None if seen.result is None else brief_of(seen.result), seen.message
        )

    def look(self) -> Look:
        """Return where the run stands, with its result, or why it has failed or is unreadable."""
        try:
            result = self.result()
            if result is not None:
                return Look(State.DONE, result)
            if self.running():
                return Look(State.RUNNING)
            if not (self.path / "error.json").exists():
                return Look(State.PENDING)
            failure = self.error() or {}
        except OSError as error:
            return Look(State.UNREADABLE, message=f"{Path(error.filename).name}: {error.strerror}")
        said = f"{failure.get('type')}: {failure.get('message')}"
        return Look(State.FAILED, message=" ".join(said.split()))

    def running(self) -> bool:
        """Return whether a process holds the lock.

        The holder itself never opens the file again: POSIX drops its lock when any descriptor of
        the file is closed.
        """
        if self.path.resolve() in _held:
            return True
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def lock(self, patience: float = 1.0) -> Iterator[bool]:
        """Hold the lock; yield whether it was to be had.

        Args:
            patience: Seconds to go on trying, because a look at `running` takes the lock for a
                moment.
        """
        key = self.path.resolve()
        if key in _held:
            yield False
            return
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            taken = _try_lock(descriptor, fcntl.LOCK_EX)
            deadline = time.monotonic() + patience
            while not taken and time.monotonic() < deadline:
                time.sleep(0.02)
                taken = _try_lock(descriptor, fcntl.LOCK_EX)
            if taken:
                _held.add(key)
            try:
                yield taken
            finally:
                _held.discard(key)
        finally:
            os.close(descriptor)

    def begin(self) -> int:
        """Clear what earlier attempts left behind, note the start and return its number from 1."""
        for folder in (self.path, self.checkpoint):
            for stale in folder.glob(".*.tmp"):
                stale.unlink()
        for name in ("error.json", "progress.json"):
            (self.path / name).unlink(missing_ok=True)
        if self.output.exists() and not any(self.checkpoint.glob("*.ckpt")):
            shutil.rmtree(self.output)
        self.output.mkdir(exist_ok=True)
        number = self.attempts() + 1
        self._append({"event": "start", "attempt": number, "pid": os.getpid(), "time": time.time()})
        return number

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result: from now on the run is done."""
        write_json(self.path / "result.json", result)
        write_brief(self.path, result)
        self._append({"event": "done", "time": time.time()})

    def fail(self, error: Mapping[str, Any]) -> None:
        """Write why there is no result."""
        write_json(self.path / "error.json", {**error, "time": time.time()})
        self._append({"event": "failed", "time": time.time()})

    def remove_unused(self) -> None:
        """Remove the directory if it says that a run was tried, and nothing else.

        What a runner or its libraries wrote stays, whatever it is: only files that this class
        writes are removed, and then directories that are empty.
        """
        if self.path.is_dir() and {entry.name for entry in self.path.iterdir()} <= BOOKKEEPING:
            with contextlib.suppress(OSError):
                if self.output.exists():
                    self.output.rmdir()
                for name in BOOKKEEPING - {self.output.name}:
                    (self.path / name).unlink(missing_ok=True)
                self.path.rmdir()

    def forget_error(self) -> None:
        """Remove the error of an earlier attempt: the run is pending again."""
        (self.path / "error.json").unlink(missing_ok=True)

    def report_progress(self, progress: Mapping[str, Any]) -> None:
        """Write how far the run is; the last write may be lost in a crash of the machine."""
        write_json(self.path / "progress.json", progress, durable=False)

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of what the run printed."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _append(self, event: Mapping[str, Any]) -> None:
        append_line(self.path / "attempts.jsonl", json.dumps(event))


def prepare(folder: RunDir, record: Mapping[str, Any]) -> None:
    """Create a run's directory and write what the run is, unless it says so already.

    Raises:
        InputError: If the directory belongs to something else, or cannot be read or written.
        OSError: If the disk is full.
    """
    path = folder.path
    seen = folder.look() if path.is_dir() and read_brief(path) is None else None
    if seen is not None and seen.state is State.UNREADABLE:
        raise InputError(f"{str(path)!r}: cannot be read: {seen.message}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        found = read_json(path / "spec.json")
        if found is not None and found.get("run_id") != record["run_id"]:
            raise InputError(f"{str(path)!r}: holds another run, {found.get('run_id')}")
        strangers = {entry.name for entry in path.iterdir()} - OWN_FILES
        if found is None and not all(name.endswith(".tmp") for name in strangers):
            raise InputError(f"{str(path)!r}: holds other files than a run's")
        if found != record and not folder.running():
            write_json(path / "spec.json", record)
        if seen is not None and seen.result is not None:
            write_brief(path, seen.result)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise InputError(f"{str(path)!r}: cannot be written: {error.strerror}") from error


def _try_lock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.lockf(descriptor, mode | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
