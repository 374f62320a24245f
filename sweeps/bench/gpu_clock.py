"""Timing on a GPU: contestants in turns, by events on its own stream.

Small layers take less time on a GPU than their launch takes in Python. `graphs=True` records each
call once as a CUDA graph and times its replays, so that the GPU's time is compared; calls that
cannot be recorded, such as those that ask the host, are timed as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch


def in_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, *, graphs: bool, block_ms: float = 5.0
) -> dict[str, float]:
    """Return median microseconds of each call, by name.

    Args:
        calls: What to time.
        rounds: Blocks of each, one after the other.
        graphs: Whether replays of recorded calls are timed.
        block_ms: How long a block shall take.
    """
    ready = {name: recorded(call) if graphs else call for name, call in calls.items()}
    counts = {}
    for name, call in ready.items():
        milliseconds(call, 3)
        counts[name] = max(1, min(2000, round(block_ms / max(1e-4, milliseconds(call, 3)))))
    took: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(rounds):
        for name, call in ready.items():
            took[name].append(1000 * milliseconds(call, counts[name]))
    return {name: median(times) for name, times in took.items()}


def milliseconds(call: Callable[[], object], count: int = 1) -> float:
    """Return how long a call takes on the GPU, as a mean over several."""
    event: Any = torch.cuda.Event
    begin, end = event(enable_timing=True), event(enable_timing=True)
    begin.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    took: float = begin.elapsed_time(end)
    return took / count


def recorded(call: Callable[[], object]) -> Callable[[], object]:
    """Return the replay of a call as a CUDA graph; the call itself if it cannot be recorded."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            call()
    except RuntimeError:
        torch.cuda.synchronize()
        return call
    return graph.replay
