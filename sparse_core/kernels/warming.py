"""Compile kernels ahead of their first use."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from sparse_core.kernels import cpu
from sparse_core.kernels.format import GROUPS, Pattern


def warmup(
    groups: Iterable[int] = (1,), batches: Iterable[int] = (1, 256), threads: int = 1
) -> float:
    """Compile, or load from the cache, the kernels of condensed layers.

    A sweep calls this once before it starts its runs, which then find the kernels in the cache
    that they share.

    Args:
        groups: Numbers of rows that share their columns, of 1, 2, 4 and 8.
        batches: Batch sizes; those with the same tile share their kernels.
        threads: Threads that layers will be run with.

    Returns:
        Seconds that it took.

    Raises:
        ValueError: If a group or a batch is not possible.
    """
    start = time.perf_counter()
    tiles = {batch: cpu.tile_size(batch) for batch in batches}
    for group in groups:
        if group not in GROUPS:
            raise ValueError(f"group must be one of {GROUPS}, got {group!r}")
        pattern = Pattern.from_mask(np.ones((8, 256), np.bool_), group)
        values = cpu.empty(pattern.size)
        values[:] = 0
        for batch, tile in tiles.items():
            # Enough samples that several threads are worth their while.
            samples = batch if threads == 1 else max(batch, 256 * threads)
            if batch <= 2:
                cpu.gemv(pattern, values, np.zeros(256, np.float32), threads=threads)
                continue
            x = cpu.pack(np.zeros((samples, 256), np.float32), tile=tile, threads=threads)
            y = cpu.forward(pattern, values, x, samples, threads=threads)
            cpu.unpack(y, samples, threads=threads)
            cpu.grad_input(pattern, values, y, samples, threads=threads)
            cpu.grad_values(pattern, x, y, samples, threads=threads)
            cpu.grad_bias(y, samples, threads=threads)
            for name in ("relu", "tanh"):
                cpu.activate(name, y, out=y, threads=threads)
                cpu.activate_backward(name, y, y, out=y, threads=threads)
    return time.perf_counter() - start
