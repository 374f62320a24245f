"""A topology on its device: the slots of each group of rows, and of each column.

All of it is derived by operations of torch on the tensors that a condensed layer holds anyway,
`columns` and `lengths` (`sparse_core.layers.state`), so that a change of the topology never leaves
the device. Groups without weights have no slots; slots beyond the last group are unused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sparse_core.kernels.gpu.support import check_offsets


@dataclass(frozen=True)
class ByColumn:
    """The slots of a topology by column.

    Attributes:
        indptr: (in + 1,) int32. Slots of column j are `indptr[j]:indptr[j + 1]`.
        owners: (slots,) int32. Their groups, ascending in each column.
        sources: (slots,) int32. Where they lie in the order of groups.
    """

    indptr: Tensor
    owners: Tensor
    sources: Tensor


@dataclass(frozen=True, eq=False)
class DeviceIndex:
    """The active weights of an (out, in) matrix, as `sparse_core.kernels.format.Pattern` has them.

    Attributes:
        in_features: Columns of the matrix.
        out_features: Rows of the matrix.
        group: Consecutive rows that share their columns.
        columns: (slots,) int32, ascending in each group; meaningless where unused.
        indptr: (groups + 1,) int32. Slots of group i are `indptr[i]:indptr[i + 1]`.
    """

    in_features: int
    out_features: int
    group: int
    columns: Tensor
    indptr: Tensor

    @classmethod
    def of(
        cls, columns: Tensor, lengths: Tensor, in_features: int, out_features: int, group: int
    ) -> DeviceIndex:
        """Derive the index of a layer.

        Args:
            columns: (slots,) of any dtype that holds them exactly.
            lengths: (ceil(out / group),) slots of each group.
            in_features: Columns of the matrix.
            out_features: Rows of the matrix.
            group: Consecutive rows that share their columns.

        Raises:
            ValueError: If there are 2^31 weights or more.
        """
        check_offsets(values=columns.numel() * group)
        indptr = torch.zeros(lengths.numel() + 1, dtype=torch.int32, device=lengths.device)
        torch.cumsum(lengths, 0, dtype=torch.int32, out=indptr[1:])
        return cls(in_features, out_features, group, columns.to(torch.int32), indptr)

    @property
    def groups(self) -> int:
        """Number of groups, those without weights included."""
        return self.indptr.numel() - 1

    @property
    def slots(self) -> int:
        """Number of slots, unused ones included."""
        return self.columns.numel()

    @cached_property
    def owners(self) -> Tensor:
        """(slots,) int32: the group of each slot, -1 where it is unused."""
        places = torch.arange(self.slots, dtype=torch.int32, device=self.indptr.device)
        owners = torch.searchsorted(self.indptr, places, right=True, out_int32=True) - 1
        return owners.masked_fill(places >= self.indptr[-1], -1)

    @cached_property
    def by_column(self) -> ByColumn:
        """The slots by column; unused ones come last and belong to none."""
        columns = self.columns.masked_fill(self.owners < 0, self.in_features)
        ordered, sources = torch.sort(columns, stable=True)
        every = torch.arange(self.in_features + 1, dtype=torch.int32, device=columns.device)
        indptr = torch.searchsorted(ordered, every, out_int32=True)
        return ByColumn(indptr, self.owners[sources], sources.to(torch.int32))

    def coordinates(self, rows: slice = slice(None)) -> tuple[Tensor, Tensor, Tensor]:
        """Return row, column and place in the values of the active weights, in their order.

        Args:
            rows: Of the matrix, whole groups.

        Returns:
            Three (n,) int64 tensors.
        """
        group = self.group
        first, last, _ = rows.indices(self.out_features)
        bounds = self.indptr[[first // group, -(-last // group)]].tolist()
        slots = torch.arange(*bounds, device=self.columns.device)
        members = torch.arange(group, device=slots.device)
        at = (self.owners[slots].long() * group).unsqueeze(1) + members
        places = (slots * group).unsqueeze(1) + members
        columns = self.columns[slots].long().unsqueeze(1).expand(at.shape)
        if last % group:
            used = at < last
            return at[used], columns[used], places[used]
        return at.reshape(-1), columns.reshape(-1), places.reshape(-1)

    def matrix(self, values: Tensor, rows: slice = slice(None)) -> Tensor:
        """Return some rows of the dense matrix of values, zero where inactive."""
        first, last, _ = rows.indices(self.out_features)
        at, columns, places = self.coordinates(rows)
        dense = values.new_zeros(last - first, self.in_features)
        dense[at - first, columns] = values[places]
        return dense

    @property
    def nnz(self) -> int:
        """Number of active weights."""
        lengths = self.indptr.diff()
        unused = self.groups * self.group - self.out_features
        return int(lengths.sum()) * self.group - unused * int(lengths[-1])

    @cached_property
    def longest(self) -> int:
        """Most slots of a group; the one number that the host waits for, once a topology."""
        return int(self.indptr.diff().max())
