"""`Rows`: a sparse matrix in rows, as features and labels of samples are kept and cut."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_core.checks import InputError


@dataclass(frozen=True)
class Rows:
    """A sparse matrix (CSR): the columns and values of each row, one row after the other.

    Attributes:
        begins: `(n + 1,) int64`; row i has the entries from `begins[i]` up to `begins[i + 1]`.
        columns: `(entries,) int64`, ascending within a row.
        values: `(entries,) float32`; None: all are one, as labels are.
        width: How many columns there are.
    """

    begins: Tensor
    columns: Tensor
    values: Tensor | None
    width: int

    def __len__(self) -> int:
        return len(self.begins) - 1

    def fault(self) -> str | None:
        """Say what is wrong with the matrix; None if nothing is.

        Rows made by `take` and `read_samples` are right; those of the user's own may not be.
        """
        begins, columns, values = self.begins, self.columns, self.values
        if begins.dtype != torch.int64 or begins.dim() != 1 or not len(begins) or begins[0] != 0:
            return "begins must be (n + 1,) int64 that starts with 0"
        if bool((begins.diff() < 0).any()) or int(begins[-1]) != len(columns):
            return "begins must ascend to the number of columns"
        if columns.dtype != torch.int64 or columns.dim() != 1:
            return "columns must be (entries,) int64"
        if len(columns) and not 0 <= int(columns.min()) <= int(columns.max()) < self.width:
            return f"columns must be in [0, {self.width})"
        if bool((columns.diff()[self.owners.diff() == 0] <= 0).any()):
            return "columns must ascend within a row, each once"
        if values is None:
            return None
        if values.dtype != torch.float32 or values.shape != columns.shape:
            return "values must be (entries,) float32"
        return None if bool(values.isfinite().all()) else "values must be finite"

    @property
    def lengths(self) -> Tensor:
        """Entries of each row, `(n,) int64`."""
        return self.begins.diff()

    @property
    def owners(self) -> Tensor:
        """The row of each entry, `(entries,) int64`."""
        return torch.repeat_interleave(self.lengths)

    def take(self, rows: Tensor) -> Rows:
        """Return some rows, in the order that `(m,) int64` says."""
        lengths = self.lengths[rows]
        begins = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        shift = torch.repeat_interleave(self.begins[rows] - begins[:-1], lengths)
        places = torch.arange(int(begins[-1])) + shift
        values = None if self.values is None else self.values[places]
        return Rows(begins, self.columns[places], values, self.width)

    def dense(self) -> Tensor:
        """Return the `(n, width) float32` matrix; for batches."""
        full = torch.zeros(len(self), self.width)
        full[self.owners, self.columns] = 1.0 if self.values is None else self.values
        return full

    def counts(self) -> Tensor:
        """Return how many entries each column has, `(width,) int64`."""
        return torch.bincount(self.columns, minlength=self.width)

    def within(self, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """Return rows and columns of the entries in columns `begin` to `end`, counted from there.

        Returns:
            Two `(entries,) int64`.
        """
        inside = (self.columns >= begin) & (self.columns < end)
        return self.owners[inside], self.columns[inside] - begin

    def normalised(self) -> Rows:
        """Return the rows scaled to length one; rows of zeros stay as they are."""
        if self.values is None:
            raise InputError("values=None: labels are not scaled", field="values")
        squares = torch.zeros(len(self)).index_add_(0, self.owners, self.values**2)
        scale = torch.where(squares > 0, squares.rsqrt(), torch.ones_like(squares))
        return Rows(self.begins, self.columns, self.values * scale[self.owners], self.width)
