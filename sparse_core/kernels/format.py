"""The condensed format: which weights exist, and where their values lie.

A `Pattern` describes the active weights of an (out, in) matrix, without their values. Rows are
taken in groups of `group` consecutive rows that share their columns (`group=1`: every row has its
own). Slot s of group i is column `columns[s]`, for s in `indptr[i]:indptr[i + 1]`; its weights
are `values[s * group : (s + 1) * group]`, one for each row of the group. With constant fan-in k,
`values` is therefore a (groups, k, group) array, and unstructured topologies are rows of unequal
length of the same format. Groups without weights are absent.

`values` may be longer than the pattern needs, so that a parameter keeps its shape while the
topology changes; what lies beyond is not read, and its gradient is zero. Where `group` does not
divide the number of rows, the last group has unused weights, which are treated in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels import slots

GROUPS = (1, 2, 4, 8, 16, 32)
"""Supported numbers of rows that share their columns."""

_UINT16_FEATURES = 1 << 16
_CHUNK = 1 << 20  # slots that are checked at once


def index_dtype(features: int) -> np.dtype[Any]:
    """Return the dtype of indices below `features`: uint16 if that is enough, else int32."""
    return np.dtype(np.uint16 if features <= _UINT16_FEATURES else np.int32)


@dataclass(frozen=True)
class Transposed:
    """The weights of a pattern by column.

    Attributes:
        indptr: (in + 1,) int64. Weights of column j are `indptr[j]:indptr[j + 1]`.
        rows: (nnz,) uint16 or int32. Their rows, ascending in each column.
        source: (nnz,) int32 or int64. Their places in `values`.
    """

    indptr: NDArray[np.int64]
    rows: NDArray[Any]
    source: NDArray[Any]

    @cached_property
    def index(self) -> str:
        """Name of the dtype of `rows`."""
        return str(self.rows.dtype.name)


@dataclass(frozen=True, eq=False)
class Pattern:
    """The active weights of a matrix.

    Use `Pattern.from_mask` or `Pattern.from_lengths`, which check their arguments; the kernels
    trust a pattern, so whoever calls the constructor calls `check` as well.

    Attributes:
        in_features: Columns of the matrix.
        out_features: Rows of the matrix.
        group: Consecutive rows that share their columns, one of `GROUPS`.
        columns: (slots,) uint16 if `in_features` is at most 65536, else int32. Ascending in each
            group.
        indptr: (groups + 1,) int64. Where the slots of each stored group begin.
        rows: (groups,) int32. Stored group i is rows `rows[i] * group` and following. Ascending.
    """

    in_features: int
    out_features: int
    group: int
    columns: NDArray[Any]
    indptr: NDArray[np.int64]
    rows: NDArray[np.int32]
    plans: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What kernels derive from the pattern once, such as bounds of work for threads."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Pattern:
        return self  # a pattern never changes

    def __reduce__(self) -> tuple[Any, ...]:
        shape = (self.in_features, self.out_features, self.group)
        return Pattern, (*shape, self.columns, self.indptr, self.rows)

    @classmethod
    def from_lengths(
        cls,
        columns: NDArray[Any],
        lengths: NDArray[Any],
        in_features: int,
        out_features: int,
        group: int = 1,
    ) -> Pattern:
        """Build a pattern from its state, and check it.

        Args:
            columns: (at least sum of lengths,) integers: the columns, group after group.
            lengths: (ceil(out / group),) integers: number of slots of each group, 0 if absent.
            in_features: Columns of the matrix.
            out_features: Rows of the matrix.
            group: Consecutive rows that share their columns.

        Raises:
            ValueError: If the state is not a pattern; the message names the offending value.
        """
        if group not in GROUPS:
            raise ValueError(f"group must be one of {GROUPS}, got {group!r}")
        if in_features < 1 or out_features < 1:
            raise ValueError(f"features must be positive, got {in_features} in, {out_features} out")
        columns, lengths = np.asarray(columns), np.asarray(lengths)
        groups = -(-out_features // group)
        if lengths.shape != (groups,) or lengths.dtype.kind not in "iu":
            raise ValueError(
                f"lengths must be ({groups},) integers for {out_features} rows in groups of "
                f"{group}, got {lengths.dtype} {lengths.shape}"
            )
        if columns.ndim != 1 or columns.dtype.kind not in "iu":
            raise ValueError(f"columns must be flat integers, got {columns.dtype} {columns.shape}")
        if lengths.min() < 0 or lengths.max() > in_features:
            bad = int(np.flatnonzero((lengths < 0) | (lengths > in_features))[0])
            raise ValueError(
                f"group {bad} has {int(lengths[bad])} slots, allowed are 0 to {in_features}"
            )
        rows = np.flatnonzero(lengths).astype(np.int32)
        indptr = np.concatenate([[0], np.cumsum(lengths[rows], dtype=np.int64)]).astype(np.int64)
        if indptr[-1] > columns.size:
            raise ValueError(f"lengths say {indptr[-1]} slots, columns has {columns.size}")
        columns = columns[: indptr[-1]]
        if columns.size and (columns.min() < 0 or columns.max() >= in_features):
            slot = int(np.flatnonzero((columns < 0) | (columns >= in_features))[0])
            i = int(np.searchsorted(indptr, slot, "right")) - 1
            raise ValueError(
                f"group {int(rows[i])} has column {int(columns[slot])}, allowed are 0 to "
                f"{in_features - 1}"
            )
        columns = np.array(columns, index_dtype(in_features))
        pattern = cls(in_features, out_features, group, columns, indptr, rows)
        pattern.check()
        return pattern

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_], group: int = 1) -> Pattern:
        """Build the pattern of a mask.

        Args:
            mask: (out, in) bool, True = active.
            group: Consecutive rows that share their columns.

        Raises:
            ValueError: If `mask` is not a bool matrix, or the rows of a group differ.
        """
        mask = np.asarray(mask)
        if mask.ndim != 2 or mask.dtype != np.bool_:
            raise ValueError(f"mask must be an (out, in) bool array, got {mask.dtype} {mask.shape}")
        if group not in GROUPS:
            raise ValueError(f"group must be one of {GROUPS}, got {group!r}")
        first = mask[::group]
        for r in range(1, group):
            other = mask[r::group]
            differs = (first[: len(other)] != other).any(1)
            if differs.any():
                i = int(np.flatnonzero(differs)[0])
                raise ValueError(
                    f"rows {i * group} and {i * group + r} are of one group of {group} but have "
                    "different columns"
                )
        columns = np.nonzero(first)[1]
        return cls.from_lengths(columns, first.sum(1), mask.shape[1], mask.shape[0], group)

    def check(self) -> None:
        """Raise ValueError, naming group and column, unless columns ascend in each group."""
        begins = np.concatenate([self.indptr[1:-1], [self.slots]])
        for first in range(1, self.slots, _CHUNK):
            last = min(first + _CHUNK, self.slots)
            falls = self.columns[first:last] <= self.columns[first - 1 : last - 1]
            low, high = np.searchsorted(begins, (first, last))
            falls[begins[low:high] - first] = False
            if falls.any():
                slot = first + int(np.flatnonzero(falls)[0])
                i = int(np.searchsorted(self.indptr, slot, "right")) - 1
                raise ValueError(self._complaint(i))

    def _complaint(self, i: int) -> str:
        """Say what is wrong with the columns of stored group i."""
        columns = self.columns[self.indptr[i] : self.indptr[i + 1]].astype(np.int64)
        found, counts = np.unique(columns, return_counts=True)
        group = int(self.rows[i])
        if counts.max() > 1:
            return f"group {group} has column {int(found[counts > 1][0])} more than once"
        at = int(np.flatnonzero(np.diff(columns) < 0)[0])
        return f"columns of group {group} must ascend, got {columns[at + 1]} after {columns[at]}"

    @cached_property
    def groups(self) -> int:
        """Number of stored groups."""
        return self.rows.size

    @cached_property
    def slots(self) -> int:
        """Number of stored columns, one a group and column."""
        return self.columns.size

    @cached_property
    def size(self) -> int:
        """Number of values that the pattern needs, those unused in a last group included."""
        return self.slots * self.group

    @cached_property
    def index(self) -> str:
        """Name of the dtype of `columns`."""
        return str(self.columns.dtype.name)

    @cached_property
    def tail(self) -> bool:
        """Whether the last stored group has fewer than `group` rows."""
        return self.groups > 0 and (int(self.rows[-1]) + 1) * self.group > self.out_features

    @cached_property
    def nnz(self) -> int:
        """Number of active weights."""
        if not self.tail:
            return self.size
        unused = (int(self.rows[-1]) + 1) * self.group - self.out_features
        return self.size - unused * int(self.indptr[-1] - self.indptr[-2])

    @cached_property
    def fan_in(self) -> int | None:
        """Fan-in of all stored rows, or None if they differ."""
        lengths = np.diff(self.indptr)
        return int(lengths[0]) if lengths.size and (lengths == lengths[0]).all() else None

    @cached_property
    def absent(self) -> NDArray[np.int32]:
        """(absent,) int32: rows without weights, ascending."""
        stored = np.zeros(-(-self.out_features // self.group), np.bool_)
        stored[self.rows] = True
        return np.flatnonzero(~np.repeat(stored, self.group)[: self.out_features]).astype(np.int32)

    @property
    def nbytes(self) -> int:
        """Bytes of the index; its transposed, and what kernels derived, once they exist."""
        arrays = [self.columns, self.indptr, self.rows]
        if "transposed" in self.__dict__:
            by_column = self.transposed
            arrays += [by_column.indptr, by_column.rows, by_column.source]
        derived = sum(getattr(plan, "nbytes", 0) for plan in self.plans.values())
        return derived + sum(array.nbytes for array in arrays)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """(ceil(out / group),) int32: slots of each group, 0 if absent; see `from_lengths`."""
        lengths = np.zeros(-(-self.out_features // self.group), np.int32)
        lengths[self.rows] = np.diff(self.indptr)
        return lengths

    @cached_property
    def transposed(self) -> Transposed:
        """The weights by column; a new topology is a new pattern, so this is built once."""
        place = np.dtype(np.int32 if self.size < 2**31 else np.int64)
        indptr = np.empty(self.in_features + 1, np.int64)
        found = np.empty(self.nnz, index_dtype(self.out_features))
        source = np.empty(self.nnz, place)
        transpose = slots.transpose_kernel(
            self.index, slots.name_of(found.dtype), slots.name_of(place)
        )
        transpose(*self._walk, self.out_features, indptr, found, source)
        return Transposed(indptr, found, source)

    @property
    def _walk(self) -> tuple[Any, ...]:
        """The first arguments of compiled walks."""
        return self.columns, self.indptr, self.rows, self.group

    def coordinates(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return row, column and place in `values` of each active weight.

        Returns:
            Three (nnz,) int64 arrays, in the order of `values`.
        """
        first = np.repeat(self.rows.astype(np.int64) * self.group, np.diff(self.indptr))
        rows = (first[:, None] + np.arange(self.group)).ravel()
        columns = np.repeat(self.columns.astype(np.int64), self.group)
        used = np.flatnonzero(rows < self.out_features)
        return rows[used], columns[used], used

    def same(self, other: Pattern) -> bool:
        """Whether another pattern has the same weights in the same places."""
        shapes = (
            (p.in_features, p.out_features, p.group, p.slots, p.groups) for p in (self, other)
        )
        return self is other or (
            len(set(shapes)) == 1
            and np.array_equal(self.rows, other.rows)
            and np.array_equal(self.indptr, other.indptr)
            and np.array_equal(self.columns, other.columns)
        )

    def to_mask(self) -> NDArray[np.bool_]:
        """Return the mask: (out, in) bool, True = active."""
        return self.expand(np.ones(self.size, np.uint8)).view(np.bool_)

    def condense(self, dense: NDArray[Any], capacity: int | None = None) -> NDArray[Any]:
        """Take the values of active weights from a dense matrix.

        Args:
            dense: (out, in) matrix.
            capacity: Length of the result; `size` by default.

        Returns:
            (capacity,) values of the dtype of `dense`; zeros where unused.

        Raises:
            ValueError: If the shape differs or `capacity` is too small.
        """
        if dense.shape != (self.out_features, self.in_features):
            expected = (self.out_features, self.in_features)
            raise ValueError(f"dense must be {expected}, got {dense.shape}")
        values: NDArray[Any] = np.zeros(self._capacity(capacity), dense.dtype)
        if slots.walks(dense):
            slots.condense_kernel(self.index, slots.name_of(dense.dtype))(
                *self._walk, dense, values
            )
            return values
        rows, columns, source = self.coordinates()
        values[source] = dense[rows, columns]
        return values

    def expand(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the dense matrix of values: (out, in), zeros where inactive.

        Raises:
            ValueError: If `values` is not flat or too short.
        """
        if values.ndim != 1 or values.size < self.size:
            raise ValueError(f"values must be flat, {self.size} or more, got {values.shape}")
        dense: NDArray[Any] = np.zeros((self.out_features, self.in_features), values.dtype)
        if slots.walks(values):
            expand = slots.expand_kernel(self.index, slots.name_of(values.dtype))
            expand(*self._walk, values, dense)
            return dense
        rows, columns, source = self.coordinates()
        dense[rows, columns] = values[source]
        return dense

    def places_in(self, old: Pattern, capacity: int | None = None) -> NDArray[np.int64]:
        """Return where values of this pattern lie in those of another.

        This carries weights and optimizer state over a change of topology.

        Args:
            old: A pattern of the same shape.
            capacity: Length of the result; `size` by default.

        Returns:
            (capacity,) int64: a place in the values of `old`, -1 for weights that it lacks and
            for unused places.

        Raises:
            ValueError: If the shapes of the matrices differ or `capacity` is too small.
        """
        if (old.in_features, old.out_features) != (self.in_features, self.out_features):
            raise ValueError(
                f"patterns must have one shape, got {(old.out_features, old.in_features)} and "
                f"{(self.out_features, self.in_features)}"
            )
        places = np.full(self._capacity(capacity), -1, np.int64)
        find = slots.places_kernel(self.index, old.index)
        find(*self._walk, *old._walk, self.out_features, places)
        return places

    def _capacity(self, capacity: int | None) -> int:
        if capacity is None:
            return self.size
        if capacity < self.size:
            raise ValueError(f"capacity must be at least {self.size}, got {capacity}")
        return capacity
