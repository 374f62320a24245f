"""Compile kernels ahead of their first use."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import checked, unchecked
from sparse_core.kernels.api import linear, linear_backward, linear_forward
from sparse_core.kernels.arguments import tile_size
from sparse_core.kernels.format import GROUPS, Pattern

_FEATURES = 256


def warmup(
    groups: Iterable[int] = (1,), batches: Iterable[int] = (1, 256), threads: int = 1
) -> float:
    """Compile, or load from the cache, the kernels of condensed layers.

    A sweep calls this once before it starts its runs, which then find the kernels in the cache
    that they share.

    Args:
        groups: Numbers of rows that share their columns, of 1 to 32.
        batches: Batch sizes; those with the same tile share their kernels.
        threads: Threads that layers will be run with.

    Returns:
        Seconds that it took.

    Raises:
        ValueError: If a group or a batch is not possible.
    """
    start = time.perf_counter()
    batches = list(batches)
    for group in groups:
        if group not in GROUPS:
            raise ValueError(f"group must be one of {GROUPS}, got {group!r}")
        pattern = Pattern.from_mask(np.ones((_FEATURES, _FEATURES), np.bool_), group)
        values: NDArray[np.float32] = np.zeros(pattern.size, np.float32)
        if 1 in batches:
            unchecked.one_sample(pattern, values, np.zeros(_FEATURES, np.float32), False)
        for batch in batches:
            x: NDArray[np.float32] = np.zeros((batch, _FEATURES), np.float32)
            linear(pattern, values, x, threads=threads)
            if batch < 3:
                continue
            # A layer cuts its batch for threads by tiles, or within them where tiles are few.
            counts = {batch, tile_size(batch) * threads} if threads > 1 else {batch}
            for count in counts:
                _train(pattern, values, np.zeros((count, _FEATURES), np.float32), threads)
    return time.perf_counter() - start


def _train(
    pattern: Pattern, values: NDArray[np.float32], x: NDArray[np.float32], threads: int
) -> None:
    """Run a layer on rows, and one in the blocked layout with activations, both ways."""
    bias, batch = np.zeros(_FEATURES, np.float32), x.shape[0]
    y, saved = linear_forward(pattern, values, x, bias, threads=threads)
    linear_backward(pattern, values, saved, y, threads=threads)
    blocked = checked.pack(x, threads=threads)
    for relu in (True, False):
        h = checked.forward(pattern, values, blocked, batch, bias, relu=relu, threads=threads)
    for name in ("relu", "tanh"):
        checked.activate(name, h, out=h, threads=threads)
        checked.activate_backward(name, h, h, out=h, threads=threads)
    d = checked.grad_input(pattern, values, h, batch, threads=threads)
    checked.grad_bias(h, batch, threads=threads)
    checked.unpack(d, batch, threads=threads)
