"""A sparse matrix row by row (CSR), the common ground of masked and condensed weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.format import GROUPS, Pattern


@dataclass(frozen=True)
class Rows:
    """The active weights of an `(out, in)` matrix.

    Attributes:
        in_features: Columns of the matrix.
        indptr: (out + 1,) int64. Row i has weights `indptr[i]:indptr[i + 1]`.
        columns: (nnz,) int64, ascending in each row.
        values: (nnz,) float32 or float64.
    """

    in_features: int
    indptr: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: NDArray[Any]

    @classmethod
    def of_matrix(cls, weight: NDArray[Any], mask: NDArray[np.bool_]) -> Rows:
        """Take the weights of an `(out, in)` matrix where the mask is True."""
        indptr = np.concatenate([[0], np.cumsum(mask.sum(1))]).astype(np.int64)
        return cls(weight.shape[1], indptr, np.nonzero(mask)[1], weight[mask])

    @classmethod
    def of_pattern(cls, pattern: Pattern, values: NDArray[Any]) -> Rows:
        """Take the weights of a pattern; `values` may be longer than the pattern needs."""
        rows, columns, places = pattern.coordinates()
        order = np.argsort(rows * pattern.in_features + columns, kind="stable")
        counts = np.bincount(rows, minlength=pattern.out_features)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(pattern.in_features, indptr, columns[order], values[places[order]])

    @property
    def out_features(self) -> int:
        """Rows of the matrix."""
        return self.indptr.size - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(out,) int64, active weights of each row."""
        return np.diff(self.indptr)

    def owners(self) -> NDArray[np.int64]:
        """(nnz,) int64, the row of each weight."""
        return np.repeat(np.arange(self.out_features), self.lengths)

    def with_rows(self, kept: NDArray[np.bool_]) -> Rows:
        """Return the matrix of the rows where `kept: (out,)` is True."""
        chosen = kept[self.owners()]
        indptr = np.concatenate([[0], np.cumsum(self.lengths[kept])]).astype(np.int64)
        return Rows(self.in_features, indptr, self.columns[chosen], self.values[chosen])

    def with_columns(self, kept: NDArray[np.bool_]) -> Rows:
        """Return the matrix of the columns where `kept: (in,)` is True."""
        chosen = kept[self.columns]
        counts = np.bincount(self.owners()[chosen], minlength=self.out_features)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        renumbered = np.cumsum(kept) - 1
        columns = renumbered[self.columns[chosen]].astype(np.int64)
        return Rows(int(kept.sum()), indptr, columns, self.values[chosen])

    def times(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return W x, `(in,)` to `(out,)`, in double precision."""
        sums = np.zeros(self.out_features)
        np.add.at(sums, self.owners(), self.values * x[self.columns])
        return sums

    def group(self, groups: Iterable[int] = GROUPS) -> int:
        """Return the largest of some numbers of consecutive rows that share their columns."""
        return next(group for group in sorted(groups, reverse=True) if self._shares(group))

    def _shares(self, group: int) -> bool:
        first = np.arange(self.out_features) // group * group
        if not np.array_equal(self.lengths, self.lengths[first]):
            return False
        shift = self.indptr[:-1] - self.indptr[first]
        twins = np.arange(self.columns.size) - np.repeat(shift, self.lengths)
        return bool(np.array_equal(self.columns, self.columns[twins]))

    def condensed(self, group: int | None = None) -> tuple[Pattern, NDArray[Any]]:
        """Return pattern and values, by default with the largest group that the rows allow."""
        group = group or self.group()
        firsts = np.arange(self.out_features) % group == 0
        pattern = Pattern.from_lengths(
            self.columns[firsts[self.owners()]],
            self.lengths[firsts],
            self.in_features,
            self.out_features,
            group,
        )
        rows, columns, places = pattern.coordinates()
        keys = self.owners() * self.in_features + self.columns
        values: NDArray[Any] = np.zeros(pattern.size, self.values.dtype)
        values[places] = self.values[np.searchsorted(keys, rows * self.in_features + columns)]
        return pattern, values
