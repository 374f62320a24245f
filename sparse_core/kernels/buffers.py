"""Arrays that kernels write to, taken again as soon as nobody holds them.

A training step needs the same megabytes at every layer, again and again. Left to `malloc`, arrays
of this size go back to the operating system when they are dropped, and the next ones come page by
page: on small layers that costs more than the kernels do. So each thread keeps the memory of its
last arrays, at most `MOST` bytes, and takes an array for a new purpose when no other reference to
it is left.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

MOST = 64 << 20
"""Bytes that a thread keeps."""

MOST_ALIKE = 16
"""Arrays of one size that a thread keeps, since it looks through them."""

_SMALL = 8192  # elements below which malloc is as fast, and alignment does not pay
_ALIGNMENT = 64  # bytes: a cache line and the widest vector


class _Kept(threading.local):
    """The arrays that a thread keeps, by size: `(memory, aligned view)` and its references."""

    def __init__(self) -> None:
        self.bytes = 0
        self.by_size: dict[int, list[tuple[Array, Array]]] = {}

    def clear(self) -> None:
        self.bytes = 0
        self.by_size.clear()


_kept = _Kept()


def _references(entry: tuple[Array, Array]) -> int:
    return sys.getrefcount(entry[0])


def _new(size: int) -> tuple[Array, Array]:
    memory = np.empty(size + _ALIGNMENT // 4, np.float32)
    start = -memory.__array_interface__["data"][0] % _ALIGNMENT // 4
    return memory, memory[start : start + size]


_IDLE = _references(_new(1))
"""References to the memory of an array that nobody uses."""

_counts_references: Any = getattr(sys, "_is_gil_enabled", lambda: True)


def empty(*shape: int) -> Array:
    """Return an uninitialised float32 array; one that is not small begins at a cache line."""
    size = math.prod(shape)
    if size < _SMALL:
        return np.empty(shape, np.float32)
    entries = _kept.by_size.get(size)
    if entries is not None:
        for entry in entries:
            if _references(entry) == _IDLE:
                return entry[1].reshape(shape)
    return _keep(_new(size)).reshape(shape)


def _keep(entry: tuple[Array, Array]) -> Array:
    """Remember an array; where they become too many, those before it are forgotten."""
    size = entry[0].nbytes
    if size <= MOST and _counts_references():
        if _kept.bytes + size > MOST:
            _kept.clear()
        alike = _kept.by_size.setdefault(entry[1].size, [])
        if len(alike) == MOST_ALIKE:
            _kept.bytes -= MOST_ALIKE * size
            alike.clear()
        _kept.bytes += size
        alike.append(entry)
    return entry[1]
