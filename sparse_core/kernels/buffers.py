"""Arrays that kernels write to, taken again as soon as nobody holds them.

A training step needs the same megabytes at every layer, again and again. Left to `malloc`, arrays
of this size go back to the operating system when they are dropped, and the next ones come page by
page: on small layers that costs more than the kernels do. So each thread keeps the memory of its
last arrays, at most `MOST` bytes, and takes an array for a new purpose when no other reference to
it is left. Activations of whole batches that wait for their backward pass are kept apart, at most
`MOST_LASTING` bytes.
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

MOST_LASTING = 1 << 30
"""Bytes that a thread keeps beside these, of arrays that last from forward to backward pass."""

MOST_LASTING_ALIKE = 64
"""Arrays of one size among them."""

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


_kept, _lasting = _Kept(), _Kept()


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
    return _take(_kept, shape, MOST, MOST_ALIKE)


def lasting(*shape: int) -> Array:
    """Return an array as `empty` does, which a backward pass will need."""
    return _take(_lasting, shape, MOST_LASTING, MOST_LASTING_ALIKE)


def _take(kept: _Kept, shape: tuple[int, ...], most: int, alike: int) -> Array:
    size = math.prod(shape)
    if size < _SMALL:
        return np.empty(shape, np.float32)
    entries = kept.by_size.get(size)
    if entries is not None:
        for entry in entries:
            if _references(entry) == _IDLE:
                return entry[1].reshape(shape)
    return _keep(kept, _new(size), most, alike).reshape(shape)


def _keep(kept: _Kept, entry: tuple[Array, Array], most: int, most_alike: int) -> Array:
    """Remember an array; where they become too many, those before it are forgotten."""
    size = entry[0].nbytes
    if size <= most and _counts_references():
        if kept.bytes + size > most:
            kept.clear()
        alike = kept.by_size.setdefault(entry[1].size, [])
        if len(alike) == most_alike:
            kept.bytes -= most_alike * size
            alike.clear()
        kept.bytes += size
        alike.append(entry)
    return entry[1]
