"""A change of topology, and how the values of weights that stay follow it to their new places.

    move = change(pattern, dropped, grown)    one merge of sorted positions, slot by slot
    move.after                                the new pattern
    move.carry(values, 0)                     weights, gradients and moments, in place

A `Move` is derived once and serves all arrays of a pattern's layout: a weight, its gradient, its
optimizer's moments, its copies in target networks.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.buffers import empty
from sparse_core.kernels.format import Pattern, index_dtype
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.slots import name_of

_COMPLAINTS = (
    "",
    "position {} is active and cannot be grown",
    "position {} is not active and cannot be dropped",
    "rows of one group of {group} would have different columns, at position {}",
    "positions must ascend and lie in the matrix, got {}",
)


@dataclass(frozen=True, eq=False)
class Move:
    """From one pattern to another of the same shape and group.

    Attributes:
        before: The pattern that was.
        after: The pattern that is.
        slots: (after.slots,) int32, the slot of `before` that each one was; -1: it is new.
    """

    before: Pattern
    after: Pattern
    slots: NDArray[np.int32]

    def carry(self, values: NDArray[Any], initial: float) -> None:
        """Bring values to their new places, in place.

        Args:
            values: (capacity,) float32 or float64, contiguous.
            initial: What new weights and unused places get.
        """
        after, size = self.after, self.before.size
        if size == 0:
            values[:] = initial
            return
        kept = (
            empty(size + after.group)
            if values.dtype == np.float32
            else np.empty(size + after.group, values.dtype)
        )
        kept[:size] = values[:size]
        kept[size:] = initial  # new weights are found there
        used = after.group
        tail = after.slots
        if after.tail:
            used = after.out_features - int(after.rows[-1]) * after.group
            tail = int(after.indptr[-2])
        carry = _carry_kernel(name_of(values.dtype), after.group)
        carry(self.slots, tail, used, kept, values, initial)

    def places(self, capacity: int) -> NDArray[np.int64]:
        """Return where values came from: (capacity,), -1 for new weights and unused places."""
        return self.after.places_in(self.before, capacity)


def change(pattern: Pattern, dropped: NDArray[np.int64], grown: NDArray[np.int64]) -> Move:
    """Drop some weights of a pattern, and grow others.

    Args:
        pattern: What is there.
        dropped: Flat positions row * in + column of weights to drop, ascending, each once.
        grown: Flat positions of weights to grow.

    Raises:
        ValueError: If a dropped weight is not active, a grown one is, positions do not ascend or
            lie outside the matrix, or the rows of a group would differ.
    """
    most = pattern.slots + grown.size
    columns = np.empty(most, index_dtype(pattern.in_features))
    slots = np.empty(most, np.int32)
    lanes = -(-pattern.out_features // pattern.group)
    indptr, rows = np.empty(lanes + 1, np.int64), np.empty(lanes, np.int32)
    shape = np.array([pattern.in_features, pattern.out_features, pattern.group, 0, 0])
    _change_kernel(pattern.index)(
        pattern.columns, pattern.indptr, pattern.rows, dropped, grown, shape,
        columns, indptr, rows, slots,
    )  # fmt: skip
    groups, at = int(shape[3]), int(shape[4])
    if groups < 0:
        raise ValueError(_COMPLAINTS[-groups].format(at, group=pattern.group))
    count = int(indptr[groups])
    after = Pattern(
        pattern.in_features,
        pattern.out_features,
        pattern.group,
        columns[:count].copy(),
        indptr[: groups + 1].copy(),
        rows[:groups].copy(),
    )
    return Move(pattern, after, slots[:count])


def outcome(
    pattern: Pattern, stays: NDArray[np.bool_], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.int64], ...]:
    """Return what changes where some slots of a pattern stay and some cells are grown.

    Args:
        pattern: What is there.
        stays: (slots,) bool.
        chosen: Cells lane * in + column to grow, ascending, each once; one that is there stays.

    Returns:
        Flat positions of weights that are dropped, and of weights that are grown, ascending; rows
        that lose their last weight, and rows that had none and get some.
    """
    group, outputs = pattern.group, pattern.out_features
    dropped = np.empty(pattern.slots * group, np.int64)
    grown = np.empty(chosen.size * group, np.int64)
    ablated, revived = np.empty(outputs, np.int64), np.empty(outputs, np.int64)
    sizes = np.zeros(4, np.int64)
    _outcome_kernel(pattern.index)(
        pattern.columns, pattern.indptr, pattern.rows, group, pattern.in_features, outputs,
        np.ascontiguousarray(stays), chosen, dropped, grown, ablated, revived, sizes,
    )  # fmt: skip
    found = zip((dropped, grown, ablated, revived), sizes.tolist(), strict=True)
    return tuple(array[:size].copy() for array, size in found)


def between(before: Pattern, after: Pattern) -> Move:
    """Return the move from one pattern to another of the same shape and group."""
    places = after.places_in(before)[:: after.group]
    return Move(before, after, (places // after.group).astype(np.int32))


@once
def _carry_kernel(dtype: str, group: int) -> Any:
    """Return the kernel of `Move.carry`: of slots from `tail` on, only `used` weights are used."""

    @kernel(f"void(int32[::1], int64, int64, {dtype}[::1], {dtype}[::1], {dtype})")
    def carry(slots, tail, used, kept, values, initial):
        new = np.uint32(kept.size // group - 1)
        for slot in range(tail):
            old = np.int64(min(np.uint32(slots[slot]), new))  # -1 is the largest number there
            for r in range(group):
                values[slot * group + r] = kept[old * group + r]
        for slot in range(tail, slots.size):
            old = np.int64(min(np.uint32(slots[slot]), new))
            for r in range(group):
                values[slot * group + r] = kept[old * group + r] if r < used else initial
        values[slots.size * group :] = initial

    return carry


@once
def _change_kernel(index: str) -> Any:
    """Return the kernel of `change`.

    The last two numbers of its `shape` are results: the stored groups, and 0; or minus the number
    of a complaint, and the position that it is about.
    """

    @kernel(
        f"void({index}[::1], int64[::1], int32[::1], int64[::1], int64[::1], int64[::1], "
        f"{index}[::1], int64[::1], int32[::1], int32[::1])"
    )
    def merge(columns, indptr, rows, dropped, grown, shape, after, begins, lanes, slots):
        inputs, outputs, group = shape[0], shape[1], shape[2]
        d = g = k = n = found = 0
        marks = dropped if dropped.size > 0 else np.full(1, -1, np.int64)
        last = marks.size - 1
        begins[0] = 0
        for lane in range((outputs + group - 1) // group):
            base = lane * group * inputs
            at = stop = 0
            if k < rows.size and rows[k] == lane:
                at, stop = indptr[k], indptr[k + 1]
                k += 1
            first, first_grown, begin = d, g, n
            end = g
            while end < grown.size and grown[end] < base + inputs:
                if grown[end] < base or (end > first_grown and grown[end] <= grown[end - 1]):
                    shape[3], shape[4] = -4, grown[end]
                    return
                end += 1
            while at < stop and g < end:  # without branches: which is next cannot be foreseen
                new, old = grown[g] - base, np.int64(columns[at])
                if new == old:
                    shape[3], shape[4] = -1, grown[g]
                    return
                comes = np.int64(new < old)
                goes = (1 - comes) & (marks[min(d, last)] == base + old)
                after[n], slots[n] = min(new, old), at - comes * (at + 1)
                n, d, g, at = n + 1 - goes, d + goes, g + comes, at + 1 - comes
            while at < stop:
                old = np.int64(columns[at])
                goes = np.int64(marks[min(d, last)] == base + old)
                after[n], slots[n] = old, at
                n, d, at = n + 1 - goes, d + goes, at + 1
            while g < end:
                after[n], slots[n] = grown[g] - base, -1
                n, g = n + 1, g + 1
            if d < dropped.size and dropped[d] < base + inputs:
                shape[3], shape[4] = -2, dropped[d]
                return
            gone, come = d - first, g - first_grown
            for r in range(1, min(group, outputs - lane * group)):
                for i in range(gone):
                    if d == dropped.size or dropped[d] != dropped[first + i] + r * inputs:
                        shape[3], shape[4] = -3, dropped[first + i]
                        return
                    d += 1
                for i in range(come):
                    if g == grown.size or grown[g] != grown[first_grown + i] + r * inputs:
                        shape[3], shape[4] = -3, grown[first_grown + i]
                        return
                    g += 1
                if d < dropped.size and dropped[d] < base + (r + 1) * inputs:
                    shape[3], shape[4] = -3, dropped[d]
                    return
                if g < grown.size and grown[g] < base + (r + 1) * inputs:
                    shape[3], shape[4] = -3, grown[g]
                    return
            if n > begin:
                lanes[found] = lane
                found += 1
                begins[found] = n
        shape[3], shape[4] = found, 0
        if d < dropped.size:
            shape[3], shape[4] = -4, dropped[d]
        if g < grown.size:
            shape[3], shape[4] = -4, grown[g]

    return merge


@once
def _outcome_kernel(index: str) -> Any:
    """Return the kernel of `outcome`."""

    @kernel(
        f"void({index}[::1], int64[::1], int32[::1], int64, int64, int64, boolean[::1], "
        "int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])"
    )
    def tell(
        columns, indptr, rows, group, inputs, outputs, stays, chosen, dropped, grown, ablated,
        revived, sizes,
    ):  # fmt: skip
        gone, come = np.empty(inputs + 1, np.int64), np.empty(inputs + 1, np.int64)
        asked = np.zeros(inputs, np.bool_)
        drops = grows = losses = gains = k = c = 0
        for lane in range((outputs + group - 1) // group):
            at = stop = 0
            if k < rows.size and rows[k] == lane:
                at, stop = indptr[k], indptr[k + 1]
                k += 1
            slots, lost, new, base, begin = stop - at, 0, 0, lane * inputs, c
            while c < chosen.size and chosen[c] < base + inputs:
                asked[chosen[c] - base] = True
                c += 1
            for slot in range(at, stop):  # without branches: what is next overwrites what is not
                column = np.int64(columns[slot])
                gone[lost] = column
                lost += not (stays[slot] | asked[column])
                asked[column] = False
            for i in range(begin, c):
                column = chosen[i] - base
                come[new] = column
                new += asked[column]
                asked[column] = False
            for row in range(lane * group, min(lane * group + group, outputs)):
                for i in range(lost):
                    dropped[drops + i] = row * inputs + gone[i]
                for i in range(new):
                    grown[grows + i] = row * inputs + come[i]
                drops += lost
                grows += new
                if slots > 0 and lost == slots and new == 0:
                    ablated[losses] = row
                    losses += 1
                if slots == 0 and new > 0:
                    revived[gains] = row
                    gains += 1
        sizes[0], sizes[1], sizes[2], sizes[3] = drops, grows, losses, gains

    return tell
