"""Numba's threads, as the kernels use them.

One thread is the default and does not touch Numba's pool at all: such kernels are plain compiled
functions, safe from any number of Python threads and in forked processes. More threads run on
Numba's pool, whose OpenMP and TBB layers may be entered by several Python threads at once; the
workqueue layer may not, so callers take turns there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numba as typed_numba

numba: Any = typed_numba  # its types are incomplete

_alone: AbstractContextManager[None] = nullcontext()
_turn = threading.Lock()


def available(threads: int) -> int:
    """Return how many threads a request gets: at most those that Numba was started with.

    Raises:
        ValueError: If `threads` is below one.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return min(threads, int(numba.config.NUMBA_NUM_THREADS))


def team(threads: int) -> AbstractContextManager[None]:
    """Let parallel kernels called in a block run on `threads` of Numba's threads."""
    return _alone if threads == 1 else _team(threads)


@contextmanager
def _team(threads: int) -> Iterator[None]:
    before = numba.get_num_threads()
    with _turn if numba.threading_layer() == "workqueue" else nullcontext():
        numba.set_num_threads(threads)
        try:
            yield
        finally:
            numba.set_num_threads(before)
