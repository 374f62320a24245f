"""The k-th highest of some scores, by bisection of integers that are ordered like them.

A float's bits are its key if it is not negative, else minus the bits of its magnitude. How many
keys reach a number is counted with full vectors, so that some thirty counts of a list take less
time than the few passes of a radix selection.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparse_core.kernels.jit import inlined, once

_MANY = 1 << 16  # keys of which a sample is looked at first
_LOOKED_AT = 4096  # keys of that sample


@once
def never(bits: str) -> int:
    """Return the key of -inf, by the dtype of keys."""
    return -int(np.array(np.inf, f"float{bits[3:]}").view(bits))


@once
def key_of(bits: str) -> Any:
    """Return a function that makes the key of a float with some bits."""
    magnitude = int(np.iinfo(bits).max)

    @inlined
    def key(found):
        number = np.int64(found)
        return number if number >= 0 else -(number & magnitude)

    return key


@once
def lowest_of(bits: str) -> Any:
    """Return a function that finds a number which few more than the `count` highest keys reach.

    It takes (keys, size, count, more), with 1 <= count <= size < 2**31. At least `count` keys reach
    what it returns, and fewer what is above it; or at most `more` than `count` keys reach it.
    """

    @inlined
    def lowest(keys, size, count, more):
        low = high = keys[0]
        for i in range(size):
            low, high = min(low, keys[i]), max(high, keys[i])
        lower, upper = np.int64(low), np.int64(high)
        as_key = np.empty(1, keys.dtype)  # comparisons of one dtype fill vectors
        while lower < upper:
            middle = (lower >> 1) + (upper >> 1) + ((lower | upper) & 1)
            as_key[0] = middle
            bar, reach = as_key[0], np.int32(0)
            for i in range(size):
                reach = np.int32(reach + np.int32(keys[i] >= bar))
            if reach < count:
                upper = middle - 1
                continue
            lower = middle
            if reach <= count + more:
                break
        return lower

    return lowest


@once
def threshold_of(bits: str) -> Any:
    """Return a function that finds what separates the `count` highest keys from the others.

    It takes (keys, size, count), as `lowest_of` does, and returns a number and how many keys equal
    to it belong to the highest; all above it do.
    """
    lowest, many, looked_at = lowest_of(bits), _MANY, _LOOKED_AT

    @inlined
    def plain(keys, size, count):
        edge, above = lowest(keys, size, count, 0), 0
        for i in range(size):
            above += keys[i] > edge
        return edge, count - above

    @inlined
    def threshold(keys, size, count):
        if size < many:
            return plain(keys, size, count)
        # Some keys tell about where the threshold is: those near it are listed in two passes.
        some = np.sort(keys[: size // looked_at * looked_at : size // looked_at])
        place = some.size * (1 - count / size)
        reach = 4 * math.sqrt(place * count / size) + 4
        low = some[max(0, int(place - reach))]
        high = some[min(some.size - 1, int(place + reach))]
        above, from_low = np.int32(0), np.int32(0)
        for i in range(size):
            above = np.int32(above + np.int32(keys[i] > high))
            from_low = np.int32(from_low + np.int32(keys[i] >= low))
        if above >= count or from_low < count:
            return plain(keys, size, count)
        near, listed = np.empty(from_low - above + 1, keys.dtype), 0
        for i in range(size):
            near[listed] = keys[i]
            listed += (keys[i] >= low) & (keys[i] <= high)
        return plain(near, listed, count - above)

    return threshold


@once
def collected_of(bits: str) -> Any:
    """Return a function that lists where a line of keys reaches a number.

    It takes (line, bound, hits, places, size): `hits` is (n + 8,) bool, zero beyond the line's n
    keys. Places are appended to the first `size`, one more is overwritten; it returns the new size.
    """

    @inlined
    def collect(line, bound, hits, places, size):
        as_key = np.empty(1, line.dtype)
        as_key[0] = bound
        bar = as_key[0]
        for j in range(line.size):
            hits[j] = line[j] >= bar
        words = hits[: line.size // 8 * 8 + 8].view(np.uint64)
        for k in range(words.size):
            if words[k] != 0:
                for j in range(8 * k, 8 * k + 8):
                    places[size] = j
                    size += hits[j]
        return size

    return collect
