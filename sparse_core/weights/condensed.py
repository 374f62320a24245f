"""A sparse weight whose layer stores its active weights only.

The same updaters drive it through the same Delta. A condensed tensor begins as a masked one
(`sparse_core.weights.conversion`), so that with one seed both have the same first masks and
weights, and keeps its name, so that both draw from the same random streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_core.kernels import moves, topk
from sparse_core.kernels.coordinates import positions_of, rows_of, set_bits
from sparse_core.kernels.format import Pattern
from sparse_core.kernels.moves import Move
from sparse_core.layers.copies import announce, release
from sparse_core.layers.sharing import Reused
from sparse_core.weights.delta import Delta
from sparse_core.weights.on_device import OnDevice, by_device
from sparse_core.weights.tensor import ALL, SparseTensor

BLOCKS_ABOVE = 1 << 24
"""Weights of a matrix above which an update looks at it a block of rows at a time."""

REMEMBERED_BELOW = 1 << 28
"""Weights of a matrix, active or not, from which on nobody remembers which were ever active."""

_PLAIN = (torch.float32, torch.float64)  # what compiled walks take


class CondensedTensor(OnDevice):
    """The sparse weight of a condensed layer, seen as a `(rows, cols)` matrix."""

    # What it holds --------------------------------------------------------------------------------

    @property
    def weight(self) -> nn.Parameter:
        """The values, `(capacity,)`."""
        values = self.layer._parameters["values"]
        assert values is not None
        return values

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dense weight."""
        return self.layer.weight_shape

    @property
    def stands_for(self) -> Tensor | None:
        """The dense weight that the values replace, until an optimizer adopts them."""
        return self._dense

    def stand_for(self, dense: nn.Parameter) -> None:
        """Name the dense weight that the values replace: `adopt` finds it in optimizers."""
        self._dense = dense

    @property
    def in_blocks(self) -> bool:
        """Whether it is too large for dense matrices.

        Never true with protected weights, or of embeddings on a GPU: they need dense matrices
        anyway.
        """
        dense = isinstance(self.layer, nn.Embedding) and self.layer.on_device
        return self.numel > BLOCKS_ABOVE and self.protected is None and not dense

    def row_blocks(self) -> Iterator[slice]:
        """Yield blocks of rows, whole groups each, of about a million weights."""
        group = self.layer.group
        step = group * max(1, topk.BLOCK_ELEMENTS // (group * self.cols))
        for first in range(0, self.rows, step):
            yield slice(first, min(first + step, self.rows))

    @by_device
    def store(self, matrix: Tensor, out: Tensor, rows: slice = ALL) -> None:
        """Write the active entries of some rows of a matrix to their places in `out`."""
        pattern, places = self.part(rows)
        out[places] = torch.from_numpy(pattern.condense(matrix.numpy()))

    def part(self, rows: slice) -> tuple[Pattern, slice]:
        """Return the pattern of a block of rows, and where its values lie."""
        whole = self.layer.pattern
        if rows == ALL:
            return whole, slice(0, whole.size)
        return rows_of(whole, *rows.indices(self.rows)[:2])

    @by_device
    def active(self, rows: slice = ALL) -> Tensor:
        """Return `(rows, cols)` bool, True = active; of whole groups."""
        return torch.from_numpy(self.part(rows)[0].to_mask())

    @by_device
    def values(self, rows: slice = ALL) -> Tensor:
        """Return the `(rows, cols)` weights, zero where inactive; of whole groups."""
        pattern, places = self.part(rows)
        return torch.from_numpy(pattern.expand(self.weight.detach()[places].numpy()))

    def write(self, values: Tensor) -> None:
        """Set the active weights from a `(rows, cols)` matrix."""
        if self.protected is not None and self.layer.weight_frozen is not None:
            values = torch.where(self.protected, self.layer.weight_frozen, values)
        with torch.no_grad():
            self.weight.copy_(self.stored(values))

    def like_dense(self) -> Tensor:
        """Return zeros in the shape and dtype of the dense weight."""
        return self.weight.new_zeros(self.rows, self.cols, requires_grad=False)

    @by_device
    def count(self) -> int:
        """Return the number of active weights."""
        return self.layer.pattern.nnz

    @by_device
    def seen(self, rows: slice = ALL) -> Tensor | None:
        """Return `(rows, cols)` bool, ever active; stored as bits."""
        bits = self.companion("seen")
        if bits is None:
            return None
        first, last, _ = rows.indices(self.rows)
        begin, end = first * self.cols, last * self.cols
        of_rows = bits[begin // 8 : -(-end // 8)].byte().numpy()
        flags = np.unpackbits(of_rows)[begin % 8 :][: end - begin].astype(np.bool_)
        return torch.from_numpy(flags).reshape(-1, self.cols)

    @by_device
    def remember(self, seen: Tensor | None = None) -> None:
        """Keep track of which weights have ever been active, from here on.

        Of `REMEMBERED_BELOW` weights or more nothing is kept: a bit for each weight, active or not,
        would be the largest part of the layer.
        """
        if self.numel >= REMEMBERED_BELOW:
            return
        if seen is None:
            packed = np.zeros(-(-self.numel // 8), np.uint8)
            set_bits(packed, positions_of(self.layer.pattern))
        else:
            packed = np.packbits(seen.numpy())
        bits, old = torch.from_numpy(packed), self.companion("seen")
        self.set_companion("seen", bits if old is None else bits.to(old.dtype))

    # Change ---------------------------------------------------------------------------------------

    def protect(self, mask: Tensor | None, values: Tensor | None = None) -> None:
        """Keep a `(rows, cols)` bool mask for earlier tasks.

        Args:
            mask: Their weights; None: there are none.
            values: `(rows, cols)`, what they are worth, if this task may read them: those that
                its mask includes, which do not train, or that it is lent.
        """
        self.set_companion("protected", None if mask is None else mask.flatten(1).clone())
        self.set_companion("frozen", None if values is None else values.flatten(1).clone())
        self.refresh()

    def fixed(self) -> list[tuple[nn.Parameter, Tensor]]:
        """List the parameters that an optimizer step must leave alone, and where, as bool masks."""
        fixed = []
        shared = self.layer.shared
        if shared is not None and shared.fixed.any():
            fixed.append((self.weight, torch.from_numpy(shared.fixed)))
        return fixed + self._fixed_biases()

    @by_device
    def start(self, mask: Tensor) -> None:
        """Set a mask, `(rows, cols)` bool; weights that stay keep their values."""
        self._move_to(Pattern.from_mask(mask.flatten(1).numpy(), self.layer.group))

    @by_device
    def enforce(self) -> None:
        """Zero what lies beyond the active weights."""
        used = self.layer.pattern.size
        with torch.no_grad():
            self.weight[used:] = 0

    def refresh(self) -> None:
        """Derive what depends on the topology, after a change or a load."""
        self.layer.derive()
        super().refresh()

    @by_device
    def _alive(self) -> Tensor:
        alive = torch.ones(self.rows, dtype=torch.bool)
        absent = self.layer.pattern.absent
        if absent.size:
            alive[torch.from_numpy(absent).long()] = False
        return alive

    @torch.no_grad()
    def take_over(self, online: SparseTensor, before: Tensor) -> None:
        """Take the topology of the online weight, after an average with it was written here.

        The average was of values in different places, so it is made anew; its weight is recovered
        from what it did: `now = before + tau (online - before)`.
        """
        towards = (online.weight - before).double()
        moved = (self.weight - before).double()
        square = float(towards @ towards)
        tau = float(moved @ towards) / square if square else 1.0
        exact = torch.equal(self.weight, online.weight)
        self.weight.copy_(before)
        self._move_like(online)
        if exact:
            self.weight.copy_(online.weight)
        else:
            self.weight.lerp_(online.weight, tau)
        self._remember_as(online)

    @by_device
    def apply(self, delta: Delta) -> None:
        """Make a Delta true: grown weights start at zero, the others move to their new places."""
        pattern = self.layer.pattern
        self._apply(moves.change(pattern, delta.dropped.numpy(), delta.grown.numpy()), delta)

    @by_device
    def follow(self, online: SparseTensor, delta: Delta) -> None:
        """Make a Delta true that was just applied to the online weight.

        The places are those of the online weight where both had one topology before.
        """
        move = online._last if isinstance(online, CondensedTensor) else None
        if move is not None and move.before.same(self.layer.pattern):
            self._apply(move, delta)
        else:
            self.apply(delta)

    def settle(self) -> None:
        """Forget how the last change moved weights, and with it the topology that was."""
        self._last = None

    def _apply(self, move: Move, delta: Delta) -> None:
        seen = self.companion("seen")
        if seen is not None:
            bits = seen if seen.dtype in _PLAIN else seen.byte()
            set_bits(bits.numpy(), delta.grown.numpy())
            if bits is not seen:
                seen.copy_(bits)
        self._move(move)
        if self.weight.grad is not None:
            self._carry(self.weight.grad, 0.0)

    @by_device
    def _move_like(self, online: SparseTensor) -> None:
        """Take the topology of another weight of the same layer."""
        if isinstance(online, CondensedTensor):
            self._move_to(online.layer.pattern)
        else:
            self.start(online.active())

    def _move_to(self, pattern: Pattern) -> None:
        """Take another topology: weights that stay move to their new places, new ones are zero."""
        self._move(moves.between(self.layer.pattern, pattern))

    def _move(self, move: Move) -> None:
        release(self.layer)
        announce(self.layer, self.name, self.parameter)
        self.layer.set_pattern(move.after)
        self._last = move
        with torch.no_grad():
            self._carry(self.weight, 0.0)
            self._restore_weight()
        super().refresh()

    def _restore_weight(self) -> None:
        shared = self.layer.shared
        if isinstance(shared, Reused):
            fixed = torch.from_numpy(shared.fixed)
            self.weight[fixed] = torch.from_numpy(shared.frozen)[fixed]

    def carry(self, moments: Tensor, delta: Delta, initial: float) -> None:
        """Bring moments, in the layout of the values, over the Delta that was just applied."""
        self._carry(moments, initial)

    @by_device
    def stored(self, matrix: Tensor) -> Tensor:
        """Bring the active entries of a `(rows, cols)` matrix into the layout of the values."""
        flat = matrix.reshape(self.rows, self.cols).numpy()
        chosen = self.layer.pattern.condense(flat, self.weight.numel())
        return torch.from_numpy(chosen)

    @by_device
    def occupied(self) -> Tensor:
        """Return where the values are active weights, `(capacity,)` bool."""
        occupied = torch.zeros(self.weight.numel(), dtype=torch.bool)
        occupied[torch.from_numpy(self.layer.pattern.coordinates()[2])] = True
        return occupied

    @by_device
    def marked(self, positions: Tensor) -> Tensor:
        """Return where the values are the weights at flat positions, `(capacity,)` bool."""
        rows, columns, source = self.layer.pattern.coordinates()
        marks = torch.zeros(self.weight.numel(), dtype=torch.bool)
        marks[source[np.isin(rows * self.cols + columns, positions.numpy())]] = True
        return marks

    @by_device
    def _carry(self, stored: Tensor, initial: float) -> None:
        """Let what lies in the layout of the values follow the last change, in place."""
        assert self._last is not None
        whole = stored.detach()
        if whole.dtype in _PLAIN and whole.is_contiguous():
            self._last.carry(whole.numpy(), initial)
            torch.autograd.graph.increment_version(stored)
            return
        places = torch.from_numpy(self._last.places(whole.numel()))
        moved = whole[places.clamp(min=0)]
        moved[places < 0] = initial
        whole.copy_(moved)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None}

    # The optimizer --------------------------------------------------------------------------------

    def adopt(self, *optimizers: Optimizer) -> None:
        """Let optimizers that were made for the dense weight train the values, with their state.

        One that has both trains the values once.
        """
        dense = self._dense
        if dense is None:
            return
        for optimizer in optimizers:
            trained = any(p is self.weight for g in optimizer.param_groups for p in g["params"])
            instead = [] if trained else [self.weight]
            for group in optimizer.param_groups:
                replaced = [instead if p is dense else [p] for p in group["params"]]
                group["params"] = [parameter for part in replaced for parameter in part]
            state = optimizer.state.pop(dense, None)
            if state is not None:
                optimizer.state[self.weight] = {
                    key: self.stored(value.detach()) if _like(value, dense) else value
                    for key, value in state.items()
                }
        self._dense = None

    _dense: Tensor | None = None
    _last: Move | None = None


def _like(value: object, parameter: Tensor) -> bool:
    return torch.is_tensor(value) and value.shape == parameter.shape
