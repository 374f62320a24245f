"""A `Delta`: what one update changes in one weight matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Delta:
    """What one update changes in one weight matrix.

    Attributes:
        dropped: `(n,) int64`, flat positions in the `(rows, cols)` matrix that become inactive,
            ascending.
        grown: `(m,) int64`, flat positions that become active, ascending.
        ablated: `(a,) int64`, rows that lose their last weight.
        revived: `(r,) int64`, rows that had none and get some.
    """

    dropped: Tensor
    grown: Tensor
    ablated: Tensor
    revived: Tensor

    @classmethod
    def between(cls, before: Tensor, after: Tensor) -> Delta:
        """Compare two `(rows, cols)` bool masks."""
        alive_before, alive_after = before.count_nonzero(1) > 0, after.count_nonzero(1) > 0
        return cls(
            _positions((before & ~after).reshape(-1)),
            _positions((after & ~before).reshape(-1)),
            _positions(alive_before & ~alive_after),
            _positions(alive_after & ~alive_before),
        )

    @property
    def moved(self) -> Tensor:
        """Return all positions whose weight starts from zero now: dropped and grown ones."""
        return torch.cat([self.dropped, self.grown])


def fill(values: Tensor, positions: Tensor, value: float) -> None:
    """Set flat (row-major) positions of a tensor of any memory layout, in place."""
    if values.is_contiguous():
        values.view(-1).index_fill_(0, positions.to(values.device), value)
    else:
        values[torch.unravel_index(positions, values.shape)] = value


def _positions(flags: Tensor) -> Tensor:
    return flags.nonzero().squeeze(1)
