"""Exact selection of the highest scores without sorting; among equal ones the first are taken.

    top_of          of a flat array
    cut_lanes       of the slots of each lane, at most as many as it may keep
    best_outside    of a matrix of cells, but for some slots of a pattern and blocked places
    fill_lanes      of each lane of such a matrix, as many as the lane asks for

Scores are compared as integers that are ordered like them, so all steps are integer arithmetic: a
float's bits if it is not negative, else minus the bits of its magnitude. -inf is never selected.
The k-th highest of a list is found digit by digit (a radix selection), that of a lane by bisection.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.format import Pattern
from sparse_core.kernels.jit import inlined, kernel, once
from sparse_core.kernels.slots import name_of

Places = NDArray[np.int64]

_SAMPLE = 4096  # cells that tell about where the threshold of a matrix is
_SPARSEST = 16  # at least one of so many cells is looked at for that
_NOWHERE = np.zeros((0, 0), np.bool_)


def top_of(scores: NDArray[Any], among: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Select the `count` highest scores.

    Args:
        scores: (n,) float32 or float64, without NaN.
        among: (n,) bool, which may be selected.
        count: How many; fewer are selected where fewer may be.

    Returns:
        (n,) bool.
    """
    chosen = np.zeros(scores.size, np.bool_)
    bits = _bits(scores)
    _top_kernel(name_of(bits.dtype))(bits, np.ascontiguousarray(among), count, chosen)
    return chosen


def cut_lanes(
    scores: NDArray[Any], pattern: Pattern, among: NDArray[np.bool_], most: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Select in each group of a pattern the slots of highest scores.

    Args:
        scores: (slots,) float32 or float64, without NaN.
        pattern: The active weights.
        among: (slots,) bool, which may be selected.
        most: (groups,) int64, at most so many in each group, absent ones included.

    Returns:
        (slots,) bool.
    """
    chosen, bits = np.array(among), _bits(scores)
    _cut_kernel(name_of(bits.dtype))(
        bits, pattern.indptr, pattern.rows, np.ascontiguousarray(most), chosen
    )
    return chosen


def best_outside(
    scores: NDArray[Any],
    pattern: Pattern,
    taken: NDArray[np.bool_],
    count: int,
    blocked: NDArray[np.bool_] | None = None,
) -> Places:
    """Select the `count` highest scores of a matrix of cells, one lane a group of rows.

    Args:
        scores: (lanes, in) float32 or float64, without NaN.
        pattern: The active weights.
        taken: (slots,) bool, slots whose cells are not candidates.
        count: How many; fewer are selected where there are fewer candidates.
        blocked: (out, in) bool: a cell with such a weight is no candidate; None: there are none.

    Returns:
        Places lane * in + column, ascending.
    """
    bits, out = _bits(scores), np.empty(max(0, count), np.int64)
    if count <= 0:
        return out
    stride = max(1, min(_SPARSEST, bits.size // _SAMPLE))
    found = _best_kernel(pattern.index, name_of(bits.dtype))(
        *_arrays(bits, pattern, taken, blocked), count, stride, out
    )
    return out[:found]


def fill_lanes(
    scores: NDArray[Any],
    pattern: Pattern,
    taken: NDArray[np.bool_],
    counts: NDArray[np.int64],
    blocked: NDArray[np.bool_] | None = None,
) -> Places:
    """Select the `counts[i]` highest scores of lane i; arguments and result as `best_outside`."""
    bits, counts = _bits(scores), np.ascontiguousarray(counts).clip(0, scores.shape[1])
    out = np.empty(int(counts.sum()), np.int64)
    found = _fill_kernel(pattern.index, name_of(bits.dtype))(
        *_arrays(bits, pattern, taken, blocked), counts, out
    )
    return out[:found]


def _bits(scores: NDArray[Any]) -> NDArray[Any]:
    """View floats as integers of their size."""
    return np.ascontiguousarray(scores).view(f"int{8 * scores.itemsize}")


def _arrays(
    bits: NDArray[Any], pattern: Pattern, taken: NDArray[np.bool_], blocked: NDArray[Any] | None
) -> tuple[Any, ...]:
    walls = _NOWHERE if blocked is None else np.ascontiguousarray(blocked)
    slots = pattern.columns, pattern.indptr, pattern.rows, np.ascontiguousarray(taken)
    return bits, *slots, walls, pattern.group


# Orders -------------------------------------------------------------------------------------------


@once
def _never(bits: str) -> int:
    """Return the integer that -inf becomes."""
    return -int(np.array(np.inf, f"float{bits[3:]}").view(bits))


@once
def _key(bits: str) -> Any:
    """Return a function that makes an integer with the order of the float with some bits."""
    magnitude = int(np.iinfo(bits).max)

    @inlined
    def key(found):
        number = np.int64(found)
        return number if number >= 0 else -(number & magnitude)

    return key


@once
def _threshold(bits: str) -> Any:
    """Return a function that finds the `count`-th highest of some keys.

    It takes (keys, size, count), with 1 <= count <= size, and returns a key and how many that are
    equal to it belong to the highest; all above it do.
    """
    top = int(bits[3:]) - 11

    @inlined
    def threshold(keys, size, count):
        counts = np.zeros(2048, np.int64)
        for i in range(size):
            counts[(keys[i] >> top) + 1024] += 1
        digit = 2047
        while counts[digit] < count:
            count -= counts[digit]
            digit -= 1
        prefix, shift, left = np.int64(digit - 1024), top, counts[digit]
        while shift > 0 and left != count:
            width = min(11, shift)
            counts[:] = 0
            low = shift - width
            for i in range(size):
                if keys[i] >> shift == prefix:
                    counts[(keys[i] >> low) & ((1 << width) - 1)] += 1
            digit = 2047
            while counts[digit] < count:
                count -= counts[digit]
                digit -= 1
            prefix, shift, left = (prefix << width) | digit, low, counts[digit]
        if shift > 0:
            return (prefix << shift) - 1, np.int64(0)
        return prefix, count

    return threshold


# Flat arrays --------------------------------------------------------------------------------------


@once
def _top_kernel(bits: str) -> Any:
    """Return the kernel of `top_of`: a function of (bits, among, count, chosen)."""
    never, key, threshold = _never(bits), _key(bits), _threshold(bits)

    @kernel(f"void({bits}[::1], boolean[::1], int64, boolean[::1])")
    def top(scores, among, count, chosen):
        keys, places = np.empty(scores.size, np.int64), np.empty(scores.size, np.int64)
        size = 0
        for i in range(scores.size):
            keys[size], places[size] = key(scores[i]), i
            size += among[i] and keys[size] > never
        if size <= count:
            for i in range(size):
                chosen[places[i]] = True
        elif count > 0:
            edge, room = threshold(keys, size, count)
            for i in range(size):
                equal = keys[i] == edge and room > 0
                chosen[places[i]] = keys[i] > edge or equal
                room -= equal

    return top


@once
def _cut_kernel(bits: str) -> Any:
    """Return the kernel of `cut_lanes`: of `chosen`, slots that are not selected become False."""
    never, key, threshold = _never(bits), _key(bits), _threshold(bits)
    highest = int(np.iinfo(np.int64).max)

    @kernel(f"void({bits}[::1], int64[::1], int32[::1], int64[::1], boolean[::1])")
    def cut(scores, indptr, rows, most, chosen):
        keys = np.empty(scores.size, np.int64)
        for i in range(rows.size):
            size, count = 0, most[rows[i]]
            for slot in range(indptr[i], indptr[i + 1]):
                keys[size] = key(scores[slot])
                chosen[slot] = chosen[slot] and keys[size] > never
                size += chosen[slot]
            if size <= count:
                continue
            edge, room = np.int64(highest), np.int64(0)
            if count > 0:
                edge, room = threshold(keys, size, count)
            for slot in range(indptr[i], indptr[i + 1]):
                found = key(scores[slot])
                equal = chosen[slot] and found == edge and room > 0
                chosen[slot] = (chosen[slot] and found > edge) or equal
                room -= equal

    return cut


# Matrices of cells --------------------------------------------------------------------------------


@once
def _load(bits: str) -> Any:
    """Return a function that writes the keys of a lane into a line.

    It takes (scores, lane, first slot, last slot, columns, taken, blocked, group, line).
    """
    never, key = _never(bits), _key(bits)

    @inlined
    def load(scores, lane, first, last, columns, taken, blocked, group, line):
        for j in range(line.size):
            line[j] = key(scores[lane, j])
        for row in range(lane * group, min(lane * group + group, blocked.shape[0])):
            for j in range(line.size):
                line[j] = never if blocked[row, j] else line[j]
        for slot in range(first, last):
            if taken[slot]:
                line[columns[slot]] = never

    return load


def _cells(index: str, bits: str) -> str:
    """Return the types of what `_arrays` returns."""
    slots = f"{index}[::1], int64[::1], int32[::1], boolean[::1]"
    return f"{bits}[:, ::1], {slots}, boolean[:, ::1], int64"


@once
def _best_kernel(index: str, bits: str) -> Any:
    """Return the kernel of `best_outside`.

    A sample of the cells tells where the threshold is about; those above a somewhat lower one are
    collected, and the highest of them selected. If there are too few, all candidates are collected.
    """
    never, load, threshold = _never(bits), _load(bits), _threshold(bits)

    @kernel(f"int64({_cells(index, bits)}, int64, int64, int64[::1])")
    def best(scores, columns, indptr, rows, taken, blocked, group, count, stride, out):
        lanes, width = scores.shape
        line = np.empty(width, scores.dtype)
        keys = np.empty(scores.size // stride + lanes, np.int64)
        places = np.empty(0, np.int64)
        bound, size = np.int64(never), np.int64(0)
        for attempt in range(3):
            if attempt == 0 and stride == 1:
                continue
            size, stored = np.int64(0), 0
            for lane in range(lanes):
                first = last = 0
                if stored < rows.size and rows[stored] == lane:
                    first, last = indptr[stored], indptr[stored + 1]
                    stored += 1
                load(scores, lane, first, last, columns, taken, blocked, group, line)
                if attempt == 0:
                    for j in range(lane % stride, width, stride):
                        keys[size] = line[j]
                        size += line[j] > never
                    continue
                if size + width > places.size:
                    more = min(scores.size, 2 * places.size + 2 * count) + width
                    wider, further = np.empty(more, np.int64), np.empty(more, np.int64)
                    wider[:size], further[:size] = keys[:size], places[:size]
                    keys, places = wider, further
                for j in range(width):
                    if line[j] > bound:
                        keys[size], places[size] = line[j], lane * width + j
                        size += 1
            if attempt > 0 and (size >= count or bound == never):
                break
            wanted = count // stride + count // (4 * stride) + 64
            bound = np.int64(never)
            if attempt == 0 and wanted < size:
                bound, _ = threshold(keys, size, wanted)
        if size <= count:
            out[:size] = places[:size]
            return size
        edge, room = threshold(keys, size, count)
        found = 0
        for i in range(size):
            equal = keys[i] == edge and room > 0
            if keys[i] > edge or equal:
                out[found] = places[i]
                found += 1
            room -= equal
        return found

    return best


@once
def _fill_kernel(index: str, bits: str) -> Any:
    """Return the kernel of `fill_lanes`."""
    never, load = _never(bits), _load(bits)

    @kernel(f"int64({_cells(index, bits)}, int64[::1], int64[::1])")
    def fill(scores, columns, indptr, rows, taken, blocked, group, counts, out):
        lanes, width = scores.shape
        line = np.empty(width, scores.dtype)
        stored = found = 0
        for lane in range(lanes):
            first = last = 0
            if stored < rows.size and rows[stored] == lane:
                first, last = indptr[stored], indptr[stored + 1]
                stored += 1
            count = counts[lane]
            if count == 0:
                continue
            load(scores, lane, first, last, columns, taken, blocked, group, line)
            low, high, candidates = line[0], line[0], 0
            for j in range(width):
                low, high = min(low, line[j]), max(high, line[j])
                candidates += line[j] > never
            edge, room = np.int64(never), np.int64(0)
            if candidates > count:
                # At least `count` keys reach `lower`, fewer reach what is above `upper`.
                lower, upper = max(np.int64(low), np.int64(never + 1)), np.int64(high)
                exact = False
                while lower < upper and not exact:
                    middle = (lower >> 1) + (upper >> 1) + ((lower | upper) & 1)
                    reach = 0
                    for j in range(width):
                        reach += line[j] >= middle
                    exact = reach == count
                    if reach >= count:
                        lower = middle
                    else:
                        upper = middle - 1
                edge, room = lower - 1, np.int64(0)
                if not exact:
                    above = 0
                    for j in range(width):
                        above += line[j] > lower
                    edge, room = lower, count - above
            for j in range(width):
                equal = line[j] == edge and room > 0
                if line[j] > edge or equal:
                    out[found] = lane * width + j
                    found += 1
                room -= equal
        return found

    return fill
