"""Columns that may be worth a weight: features of samples that ask for more, and a few others.

A sample asks a row for more where the loss falls as the row's output rises: where the gradient of
the output is negative. Of a one-vs-all classifier these are the label's positives.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.draws import mixed
from sparse_core.kernels.jit import kernel, once

MOST_SAMPLES = 8
"""Samples of a row whose features are looked at, those that ask for most."""

MOST_FEATURES = 128
"""Features of such a sample that are looked at: all, or so many from a random one on."""

ANY = 8
"""Columns of a lane that are drawn at random besides."""


def candidates(
    asks: NDArray[np.float32],
    begins: NDArray[np.int64],
    features: NDArray[np.int64],
    width: int,
    group: int,
    first: int,
    seed: int,
) -> NDArray[np.int64]:
    """Return cells lane * width + column, ascending, each once.

    Args:
        asks: (samples, rows) gradients of the outputs of some lanes.
        begins: (samples + 1,) where the features of each sample begin.
        features: The columns in which it is other than zero.
        width: Columns of the matrix.
        group: Rows of a lane.
        first: The number of the first lane.
        seed: Of 63 bits; a lane's numbers are a function of it and of the lane.
    """
    lanes = -(-asks.shape[1] // group)
    room = lanes * (MOST_SAMPLES * MOST_FEATURES + ANY)
    out = np.empty(room, np.int64)
    found = _kernel()(np.ascontiguousarray(asks), begins, features, width, group, first, seed, out)
    return out[:found].copy()


@once
def _kernel() -> Any:
    """Return the kernel of `candidates`."""
    most, few, some, hashed = MOST_SAMPLES, MOST_FEATURES, ANY, mixed

    @kernel(
        "int64(float32[:, ::1], int64[::1], int64[::1], int64, int64, int64, int64, int64[::1])"
    )
    def collect(asks, begins, features, width, group, first, seed, out):
        samples, rows = asks.shape
        step, half = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
        begin = hashed(np.uint64(seed) + step)
        met = np.zeros(width, np.bool_)
        worst, who = np.empty(most, np.float32), np.empty(most, np.int64)
        found = 0
        for lane in range((rows + group - 1) // group):
            size = 0
            for row in range(lane * group, min(lane * group + group, rows)):
                for sample in range(samples):
                    value = asks[sample, row]
                    if not value < 0 or (size == most and value >= worst[most - 1]):
                        continue
                    at = size if size < most else most - 1
                    size = min(size + 1, most)
                    while at > 0 and worst[at - 1] > value:
                        worst[at], who[at] = worst[at - 1], who[at - 1]
                        at -= 1
                    worst[at], who[at] = value, sample
            state = hashed(begin ^ hashed(np.uint64(lane + first) + step))
            here, base = found, (lane + first) * width
            for i in range(size):
                low, high = begins[who[i]], begins[who[i] + 1]
                length = high - low
                if length == 0:
                    continue
                state += step
                start = np.int64(((hashed(state) >> half) * np.uint64(length)) >> half)
                for k in range(min(length, few)):
                    column = features[low + (start + k) % length]
                    out[found] = column
                    found += not met[column]
                    met[column] = True
            for _ in range(some):
                state += step
                column = np.int64(((hashed(state) >> half) * np.uint64(width)) >> half)
                out[found] = column
                found += not met[column]
                met[column] = True
            for i in range(here, found):
                met[out[i]] = False
            out[here:found].sort()
            for i in range(here, found):
                out[i] += base
        return found

    return collect
