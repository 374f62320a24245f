"""Small kernels on whole arrays, for tapes."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np

from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.optimizer_steps import TAU


@once
def add_kernel() -> Any:
    """Return the kernel out = a + b of flat arrays (a, b, out); `out` may be an input."""

    @kernel("void(float32[::1], float32[::1], float32[::1])")
    def add(a, b, out):
        for i in range(out.size):
            out[i] = a[i] + b[i]

    return add


@once
def copy_kernel() -> Any:
    """Return the kernel of (source, target), (tiles, any features, tile), and a feature of each.

    It copies as many features as both have from those on.
    """

    @kernel("void(float32[:, :, ::1], float32[:, :, ::1], int64, int64)")
    def copy(source, target, first, at):
        tile = target.shape[2]
        for t in range(target.shape[0]):
            for j in range(min(source.shape[1] - first, target.shape[1] - at)):
                for s in range(tile):
                    target[t, at + j, s] = source[t, first + j, s]

    return copy


@once
def mask_kernel() -> Any:
    """Return the kernel that multiplies the first of two flat arrays by the second."""

    @kernel("void(float32[::1], float32[::1])")
    def mask(array, factors):
        for i in range(array.size):
            array[i] *= factors[i]

    return mask


@once
def clear_kernel() -> Any:
    """Return the kernel that zeroes entries of a flat array, of (array, places)."""

    @kernel("void(float32[::1], int64[::1])")
    def clear(array, places):
        for place in places:
            array[place] = 0

    return clear


@once
def save_kernel() -> Any:
    """Return the kernel that copies entries of a flat array, of (array, places, out)."""

    @kernel("void(float32[::1], int64[::1], float32[::1])")
    def save(array, places, out):
        for i in range(places.size):
            out[i] = array[places[i]]

    return save


@once
def restore_kernel() -> Any:
    """Return the kernel that undoes `save_kernel`'s, of (array, places, saved)."""

    @kernel("void(float32[::1], int64[::1], float32[::1])")
    def restore(array, places, saved):
        for i in range(places.size):
            array[places[i]] = saved[i]

    return restore


@once
def place_kernel() -> Any:
    """Return the kernel target[places] = array[source], of (array, source, places, target)."""

    @kernel("void(float32[::1], int64[::1], int64[::1], float32[::1])")
    def place(array, source, places, target):
        for i in range(places.size):
            target[places[i]] = array[source[i]]

    return place


@once
def follow_kernel() -> Any:
    """Return the kernel of a Polyak average at places of a target.

    Returns:
        A function of the target, of places, of what was there, of what it follows, and of an
        optimizer's numbers.
    """
    column = TAU

    @kernel("void(float32[::1], int64[::1], float32[::1], float32[::1], float32[:, ::1])")
    def follow(target, places, before, values, numbers):
        tau = numbers[0, column]
        for i in range(places.size):
            target[places[i]] = before[i] * (np.float32(1) - tau) + tau * values[i]

    return follow
