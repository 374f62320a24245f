"""A condensed weight on a GPU: its topology is looked at and changed there, by operations of torch.

`by_device` puts one of these methods in the place of a method of `CondensedTensor` while the values
are on a GPU. Both do the same; only lengths and counts go to the host.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from sparse_core.checks import InputError
from sparse_core.layers.copies import announce, release
from sparse_core.layers.state import Condensed
from sparse_core.weights.delta import Delta
from sparse_core.weights.tensor import ALL, SparseTensor

F = TypeVar("F", bound=Callable[..., Any])


def by_device(method: F) -> F:
    """Call the method of the same name with `device_` before it while the weight is on a GPU."""
    there = f"device_{method.__name__.lstrip('_')}"

    @functools.wraps(method)
    def chosen(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.layer.on_device:
            return getattr(self, there)(*args, **kwargs)
        return method(self, *args, **kwargs)

    return cast(F, chosen)


class OnDevice(SparseTensor):
    """What a condensed weight does while it is on a GPU; `CondensedTensor` says what that is."""

    layer: Condensed
    _places: Tensor | None = None

    @property
    def _group(self) -> int:
        return self.layer.group

    # What it holds --------------------------------------------------------------------------------

    def device_active(self, rows: slice = ALL) -> Tensor:
        """Return `(rows, cols)` bool, True = active; of whole groups."""
        return self.layer.index.matrix(torch.ones_like(self.weight, dtype=torch.bool), rows)

    def device_values(self, rows: slice = ALL) -> Tensor:
        """Return the `(rows, cols)` weights, zero where inactive; of whole groups."""
        return self.layer.index.matrix(self.weight.detach(), rows)

    def device_count(self) -> int:
        """Return the number of active weights."""
        return self.layer.index.nnz

    def device_seen(self, rows: slice = ALL) -> Tensor | None:
        """Return `(rows, cols)` bool, ever active; stored as bits."""
        bits = self.companion("seen")
        if bits is None:
            return None
        first, last, _ = rows.indices(self.rows)
        begin, end = first * self.cols, last * self.cols
        of_rows = bits[begin // 8 : -(-end // 8)].to(torch.uint8)
        flags = (of_rows.unsqueeze(1) >> _shifts(bits)).bitwise_and(1).bool().reshape(-1)
        return flags[begin % 8 :][: end - begin].reshape(-1, self.cols)

    def device_remember(self, seen: Tensor | None = None) -> None:
        """Keep track of which weights have ever been active, from here on."""
        if seen is None:
            rows, columns, _ = self.layer.index.coordinates()
            positions = rows * self.cols + columns
        else:
            positions = seen.reshape(-1).nonzero().squeeze(1)
        bits, old = self._bits(positions), self.companion("seen")
        self.set_companion("seen", bits if old is None else bits.to(old.dtype))

    def device_stored(self, matrix: Tensor) -> Tensor:
        """Bring the active entries of a `(rows, cols)` matrix into the layout of the values."""
        out = matrix.new_zeros(self.weight.numel())
        self.device_store(matrix, out)
        return out

    def device_store(self, matrix: Tensor, out: Tensor, rows: slice = ALL) -> None:
        """Write the active entries of some rows of a matrix to their places in `out`."""
        at, columns, places = self.layer.index.coordinates(rows)
        out[places] = matrix[at - rows.indices(self.rows)[0], columns]

    def device_occupied(self) -> Tensor:
        """Return where the values are active weights, `(capacity,)` bool."""
        occupied = torch.zeros_like(self.weight, dtype=torch.bool)
        occupied[self.layer.index.coordinates()[2]] = True
        return occupied

    def device_marked(self, positions: Tensor) -> Tensor:
        """Return where the values are the weights at flat positions, `(capacity,)` bool."""
        rows, columns, places = self.layer.index.coordinates()
        marks = torch.zeros_like(self.weight, dtype=torch.bool)
        marks[places] = torch.isin(rows * self.cols + columns, positions)
        return marks

    def device_alive(self) -> Tensor:
        """Return `(rows,)` bool, neurons that have weights."""
        return (self.layer.lengths > 0).repeat_interleave(self._group)[: self.rows]

    # Change ---------------------------------------------------------------------------------------

    def device_enforce(self) -> None:
        """Zero what lies beyond the active weights."""
        with torch.no_grad():
            self.weight[int(self.layer.index.indptr[-1]) * self._group :] = 0

    def device_start(self, mask: Tensor) -> None:
        """Set a mask, `(rows, cols)` bool; weights that stay keep their values."""
        lead = mask[:: self._group]
        if not torch.equal(lead.repeat_interleave(self._group, 0)[: self.rows], mask):
            raise InputError(f"layer {self.name!r}: rows of one group have different columns")
        lanes, columns = lead.nonzero().unbind(1)
        self._device_move(lanes * self.cols + columns)

    def device_apply(self, delta: Delta) -> None:
        """Make a Delta true: grown weights start at zero, the others move to their new places."""
        before = self._slots()
        left = before[~torch.isin(before, self._leading(delta.dropped))]
        after = torch.cat([left, self._leading(delta.grown)]).sort().values
        seen = self.companion("seen")
        if seen is not None:
            seen.copy_(seen.to(torch.uint8) | self._bits(delta.grown))
        self._device_move(after)
        if self.weight.grad is not None:
            self.device_carry(self.weight.grad, 0.0)

    def device_follow(self, online: SparseTensor, delta: Delta) -> None:
        """Make a Delta true that was just applied to the online weight."""
        self.device_apply(delta)

    def device_move_like(self, online: SparseTensor) -> None:
        """Take the topology of another weight of the same layer."""
        self.device_start(online.active())

    def device_carry(self, stored: Tensor, initial: float) -> None:
        """Let what lies in the layout of the values follow the last change, in place."""
        assert self._places is not None
        moved = stored.detach()[self._places.clamp(min=0)]
        with torch.no_grad():
            stored.copy_(moved.masked_fill_(self._places < 0, initial))

    def _device_move(self, after: Tensor) -> None:
        """Take the topology whose slots are at `after`: flat places (group, column), ascending."""
        before, group, device = self._slots(), self._group, after.device
        sources = torch.full_like(after, -1)
        if before.numel():
            at = torch.searchsorted(before, after).clamp(max=before.numel() - 1)
            sources = torch.where(before[at] == after, at, -1)
        members = torch.arange(group, device=device)
        of_slots = (sources * group).unsqueeze(1) + members
        kept = of_slots.masked_fill((sources < 0).unsqueeze(1), -1).reshape(-1)
        release(self.layer)
        announce(self.layer, self.name, self.parameter)
        lanes = after // self.cols
        counts = torch.bincount(lanes, minlength=self.layer.lengths.numel())
        self.layer.set_slots(after % self.cols, counts)
        places = torch.full((self.weight.numel(),), -1, dtype=torch.int64, device=device)
        places[: kept.numel()] = kept[: self.weight.numel()]
        self._places = places
        self.device_carry(self.weight, 0.0)
        SparseTensor.refresh(self)

    def _slots(self) -> Tensor:
        """Return flat places (group, column) of the slots, ascending int64."""
        index = self.layer.index
        used = int(index.indptr[-1])
        return index.owners[:used].long() * self.cols + index.columns[:used]

    def _leading(self, positions: Tensor) -> Tensor:
        """Return the slots, as `_slots` has them, of weights at flat positions."""
        rows = positions // self.cols
        leads = rows % self._group == 0
        return (rows[leads] // self._group) * self.cols + positions[leads] % self.cols

    def _bits(self, positions: Tensor) -> Tensor:
        """Return `(ceil(numel / 8),)` uint8 with bits set, in the order of `np.packbits`."""
        bits = torch.zeros(-(-self.numel // 8), dtype=torch.int32, device=positions.device)
        bits.index_add_(0, positions // 8, (128 >> positions % 8).to(torch.int32))
        return bits.to(torch.uint8)


def _shifts(like: Tensor) -> Tensor:
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=like.device)
