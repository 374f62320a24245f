"""Checkpoints of a run: all that it needs to go on as if it had never stopped.

    <folder>/00000007.ckpt      what the run's objects are, pickled as one graph
    <folder>/00000007.rows      rows of a ring buffer that are new since checkpoint 6

A checkpoint is written to a temporary file, synced and renamed, and carries a digest of its
content; the one before is kept until the next one is whole. One that was cut off, or is of another
version of the code, is not read.

Reading unpickles, which can run any code: a run reads its own folder only.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sparse_core.pickling import Reduce, pickled, streams, unpickled
from sparse_core.rings import Ring, Segment
from sparse_core.whole_files import read, write

SHOWN = 200
"""Characters of a reason that are shown."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they lie; made when the first is written.
        minutes: Between two checkpoints; 0: at every opportunity.
        key: What the run is and what it is run by; a checkpoint of another is not read.
        keep: Whether the run's end is kept as well, so that it can be prolonged.

    Attributes:
        keep: As given.
        others: Whether what was loaded is of the run that was to be begun with.
    """

    def __init__(self, folder: Path, minutes: float, key: str = "", keep: bool = False) -> None:
        self.keep = keep
        self.others = False
        self._folder = folder
        self._seconds = 60 * minutes
        self._keys = [_digest(key)]
        self._last = time.monotonic()
        self._number = max(self._numbers(), default=0)
        self._segments: list[Segment] = []
        self._generation = 0
        self._impossible = False

    def exist(self) -> bool:
        """Whether there is any, whole or not."""
        return bool(self._numbers())

    def begin_with(self, folder: Path, key: str) -> None:
        """Go on from another run's checkpoints, unless there are some already.

        Args:
            folder: Where the other run's lie; those that are whole are copied.
            key: The other run's.
        """
        self._keys.append(_digest(key))
        if self.exist():
            return
        self._folder.mkdir(exist_ok=True)
        for path in sorted(_files(folder), key=lambda path: (path.suffix == ".ckpt", path.stem)):
            try:
                body = read(path)
            except ValueError as error:
                _say(f"{path.name} is not used: {_reason(error)}")
            else:
                write(self._folder / path.name, body)
        self._number = max(self._numbers(), default=0)

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return not self._impossible and time.monotonic() - self._last >= self._seconds

    def save(
        self,
        state: Mapping[str, Any],
        *,
        outside: Mapping[str, Any] | None = None,
        ring: Ring | None = None,
        reduce: Reduce | None = None,
    ) -> None:
        """Write a checkpoint, with the states of all global random streams.

        What stands in the way is said in one line on stderr, and the run goes on without: objects
        that cannot be pickled, once and for all; a full disk, each time.

        Args:
            state: Objects by name, pickled as one graph.
            outside: Objects that the graph refers to and that do not belong to it, by name; `load`
                is given those that stand for them.
            ring: A ring buffer of the graph, whose rows are written once each.
            reduce: How objects are pickled whose own way leaves something out.
        """
        try:
            self._save(state, outside or {}, ring, reduce)
        except OSError as error:
            _say(f"no checkpoint: {error.strerror or error}; the run goes on")
        except Exception as error:  # whatever pickling somebody's object raises
            self._impossible = True
            _say(f"no checkpoints: {_reason(error)}; a run that is stopped begins again from zero")
        self._last = time.monotonic()

    def load(self, outside: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the state of the latest checkpoint that is whole; None: begin from zero.

        Random streams are not put back: see `streams` of the state, and `set_streams`.

        Args:
            outside: What stands for the objects that did not belong to the graph.
        """
        for number in sorted(self._numbers(), reverse=True):
            try:
                state = self._load(number, outside or {})
            except Exception as error:  # whatever unpickling raises
                _say(f"checkpoint {number} is not used: {_reason(error)}")
                continue
            self._number = number
            self._last = time.monotonic()
            _say(f"goes on from checkpoint {number}")
            return state
        self._remove(lambda path: True)
        return None

    def remove(self) -> None:
        """Remove them all."""
        self._remove(lambda path: True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _save(
        self,
        state: Mapping[str, Any],
        outside: Mapping[str, Any],
        ring: Ring | None,
        reduce: Reduce | None,
    ) -> None:
        self._folder.mkdir(exist_ok=True)
        number = self._number + 1
        segments: list[Segment] = []
        content: dict[str, Any] = {"state": dict(state), "streams": streams(), "key": self._keys[0]}
        with contextlib.ExitStack() as stack:
            if ring is not None:
                before = self._segments if ring.generation == self._generation else []
                segment = ring.segment(number, before)
                write(self._path(number, ".rows"), ring.rows(segment))
                segments = [*ring.needed(before), segment]
                stack.enter_context(ring.without_arrays())
            content |= {"ring": ring, "segments": segments}
            body = pickled(content, outside, reduce)
        write(self._path(number), body)
        kept = {each.number for each in (*self._segments, *segments)}
        self._remove(
            lambda path: (
                int(path.stem) not in (kept if path.suffix == ".rows" else (number - 1, number))
            )
        )
        self._number, self._segments = number, segments
        self._generation = 0 if ring is None else ring.generation

    def _load(self, number: int, outside: Mapping[str, Any]) -> dict[str, Any]:
        content = unpickled(read(self._path(number)), outside)
        if content["key"] not in self._keys:
            raise ValueError("it is of other code, or of another run")
        ring: Ring | None = content["ring"]
        if ring is not None:
            ring.make_arrays()
            for segment in content["segments"]:
                ring.fill(segment, read(self._path(segment.number, ".rows")))
        self._segments = content["segments"]
        self._generation = 0 if ring is None else ring.generation
        state: dict[str, Any] = content["state"]
        self.others = content["key"] != self._keys[0]
        return state | {"streams": content["streams"]}

    def _remove(self, unwanted: Callable[[Path], bool]) -> None:
        for path in _files(self._folder):
            if unwanted(path):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _numbers(self) -> list[int]:
        return [int(path.stem) for path in _files(self._folder) if path.suffix == ".ckpt"]

    def _path(self, number: int, suffix: str = ".ckpt") -> Path:
        return self._folder / f"{number:08}{suffix}"


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.stem.isdecimal()]


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:SHOWN]
