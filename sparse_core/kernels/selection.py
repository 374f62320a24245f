"""Exact selection of the highest scores without sorting; among equal ones the first are taken.

    top_of          of a flat array
    cut_lanes       of the slots of each lane, at most as many as it may keep
    best_outside    of a matrix of cells, but for some slots of a pattern and blocked places
    fill_lanes      of each lane of such a matrix, as many as the lane asks for

Scores are compared as integers that are ordered like them (`sparse_core.kernels.thresholds`), so
all steps are integer arithmetic. -inf is never selected. Of a matrix, few cells are compared in
full: most lie below a bound that a few others show. Kernels write each place before they know
whether it is selected, so results have room for one more.
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
from sparse_core.kernels.thresholds import collected_of, key_of, lowest_of, never, threshold_of

Places = NDArray[np.int64]

_SAMPLE = 4096  # cells that tell about where the threshold of a matrix is
_SPARSEST = 5  # at least one of two to this power is looked at for that
_FOLD = 16  # cells of a lane of which the highest may stand for all, to bound its threshold
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
    bits, out = _bits(scores), np.empty(max(0, count) + 1, np.int64)
    if count <= 0:
        return out[:0]
    shift = max(0, min(_SPARSEST, (bits.size // _SAMPLE).bit_length() - 1))
    found = _best_kernel(pattern.index, name_of(bits.dtype))(
        *_arrays(bits, pattern, taken, blocked), count, shift, out
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
    out = np.empty(int(counts.sum()) + 1, np.int64)
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


# Flat arrays --------------------------------------------------------------------------------------


@once
def _top_kernel(bits: str) -> Any:
    """Return the kernel of `top_of`: a function of (bits, among, count, chosen)."""
    least, key, threshold = never(bits), key_of(bits), threshold_of(bits)

    @kernel(f"void({bits}[::1], boolean[::1], int64, boolean[::1])")
    def top(scores, among, count, chosen):
        keys, size = np.empty(scores.size, scores.dtype), 0
        for i in range(scores.size):
            keys[size] = key(scores[i])
            size += among[i] and keys[size] > least
        edge, room = np.int64(least), np.int64(0)
        if count <= 0:
            return
        if size > count:
            edge, room = threshold(keys, size, count)
        for i in range(scores.size):
            found = key(scores[i])
            equal = among[i] & (found == edge) & (room > 0)
            chosen[i] = (among[i] & (found > edge)) | equal
            room -= equal

    return top


@once
def _cut_kernel(bits: str) -> Any:
    """Return the kernel of `cut_lanes`: of `chosen`, slots that are not selected become False."""
    least, key, threshold = never(bits), key_of(bits), threshold_of(bits)
    highest = int(np.iinfo(np.int64).max)

    @kernel(f"void({bits}[::1], int64[::1], int32[::1], int64[::1], boolean[::1])")
    def cut(scores, indptr, rows, most, chosen):
        keys = np.empty(scores.size, scores.dtype)
        for i in range(rows.size):
            size, count = 0, most[rows[i]]
            for slot in range(indptr[i], indptr[i + 1]):
                keys[size] = key(scores[slot])
                chosen[slot] = chosen[slot] and keys[size] > least
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

    It takes (scores, lane, first slot, last slot, columns, taken, blocked, group, line), and
    overwrites what follows them in the line.
    """
    least, key = never(bits), key_of(bits)

    @inlined
    def load(scores, lane, first, last, columns, taken, blocked, group, line):
        width = scores.shape[1]
        for j in range(width):
            line[j] = key(scores[lane, j])
        for row in range(lane * group, min(lane * group + group, blocked.shape[0])):
            for j in range(width):
                line[j] = least if blocked[row, j] else line[j]
        for slot in range(first, last):
            j = np.int64(columns[slot])
            line[j if taken[slot] else width] = least

    return load


@once
def _load_some(bits: str) -> Any:
    """Return a function that writes the keys of one in `1 << shift` cells of a lane into a line.

    It takes (scores, lane, first slot, last slot, columns, taken, blocked, group, line, shift), and
    returns how many there are.
    """
    least, key = never(bits), key_of(bits)

    @inlined
    def load(scores, lane, first, last, columns, taken, blocked, group, line, shift):
        mask = (1 << shift) - 1
        offset = lane & mask
        size = max(0, (scores.shape[1] - offset + mask) >> shift)
        for t in range(size):
            line[t] = key(scores[lane, offset + (t << shift)])
        for row in range(lane * group, min(lane * group + group, blocked.shape[0])):
            for t in range(size):
                line[t] = least if blocked[row, offset + (t << shift)] else line[t]
        for slot in range(first, last):
            place = np.int64(columns[slot]) - offset
            if (place & mask) == 0 and place >= 0 and taken[slot]:
                line[place >> shift] = least
        return size

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
    least, threshold, collect = never(bits), threshold_of(bits), collected_of(bits)
    load, load_some = _load(bits), _load_some(bits)

    @kernel(f"int64({_cells(index, bits)}, int64, int64, int64[::1])")
    def best(scores, columns, indptr, rows, taken, blocked, group, count, shift, out):
        lanes, width = scores.shape
        line, hits = np.empty(width + 1, scores.dtype), np.zeros(width + 8, np.bool_)
        keys = np.empty((scores.size >> shift) + lanes, scores.dtype)
        places = np.empty(0, np.int64)
        bound, size = np.int64(least), np.int64(0)
        for attempt in range(3):
            if attempt == 0 and shift == 0:
                continue
            size, stored = np.int64(0), 0
            for lane in range(lanes):
                first = last = 0
                if stored < rows.size and rows[stored] == lane:
                    first, last = indptr[stored], indptr[stored + 1]
                    stored += 1
                if attempt == 0:
                    some = load_some(
                        scores, lane, first, last, columns, taken, blocked, group, line, shift
                    )
                    for j in range(some):
                        keys[size] = line[j]
                        size += line[j] > least
                    continue
                load(scores, lane, first, last, columns, taken, blocked, group, line)
                if size + width >= places.size:
                    more = min(scores.size, 2 * places.size + 2 * count) + width + 1
                    wider, further = np.empty(more, scores.dtype), np.empty(more, np.int64)
                    wider[:size], further[:size] = keys[:size], places[:size]
                    keys, places = wider, further
                begin = size
                size = collect(line[:width], bound + 1, hits, places, size)
                for i in range(begin, size):
                    keys[i] = line[places[i]]
                    places[i] += lane * width
            if attempt > 0 and (size >= count or bound == least):
                break
            wanted = (count >> shift) + (count >> (shift + 2)) + 64
            bound = np.int64(least)
            if attempt == 0 and wanted < size:
                bound, _ = threshold(keys, size, wanted)
        if size <= count:
            out[:size] = places[:size]
            return size
        edge, room = threshold(keys, size, count)
        found = 0
        for i in range(size):
            equal = keys[i] == edge and room > 0
            out[found] = places[i]
            found += keys[i] > edge or equal
            room -= equal
        return found

    return best


@once
def _fill_kernel(index: str, bits: str) -> Any:
    """Return the kernel of `fill_lanes`.

    Of each few cells of a lane the highest is kept. What enough of these reach, enough cells of the
    lane reach, and not many more: only those are compared in full.
    """
    least, load, collect = never(bits), _load(bits), collected_of(bits)
    lowest, threshold = lowest_of(bits), threshold_of(bits)

    @kernel(f"int64({_cells(index, bits)}, int64[::1], int64[::1])")
    def fill(scores, columns, indptr, rows, taken, blocked, group, counts, out):
        lanes, width = scores.shape
        line, hits = np.empty(width + 1, scores.dtype), np.zeros(width + 8, np.bool_)
        peaks, keys = np.empty(width, scores.dtype), np.empty(width, scores.dtype)
        places = np.empty(width + 1, np.int64)
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
            fold = _FOLD
            while fold > 1 and width < 2 * count * fold:
                fold >>= 1
            few = width // fold
            peaks[:few] = line[:few]
            for begin in range(few, width, few):
                part = line[begin : min(begin + few, width)]
                for j in range(part.size):
                    peaks[j] = part[j] if part[j] > peaks[j] else peaks[j]
            bound = max(np.int64(least + 1), lowest(peaks, few, count, count // 8))
            size = collect(line[:width], bound, hits, places, 0)
            for i in range(size):
                keys[i] = line[places[i]]
            edge, room = np.int64(least), np.int64(0)
            if size > count:
                edge, room = threshold(keys, size, count)
            for i in range(size):
                equal = keys[i] == edge and room > 0
                out[found] = lane * width + places[i]
                found += keys[i] > edge or equal
                room -= equal
        return found

    return fill
