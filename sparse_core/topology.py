"""Which weights are active, and the one way in which that changes: a `Delta`.

Weights, optimizer state, target networks, logs and metrics all consume the same Delta; nothing
else edits a mask once training has begun.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparse_core.layers.masked import GradientTap
from sparse_core.structure import Structure


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
        alive_before, alive_after = before.any(1), after.any(1)
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


def _positions(flags: Tensor) -> Tensor:
    return flags.nonzero().squeeze(1)


class SparseTensor:
    """One sparse weight: a masked layer's tensor, seen as a `(rows, cols)` matrix.

    A row is a neuron or a filter. The mask, not the value, says whether a weight is active: an
    active weight may well be zero.

    Attributes:
        name: The parameter's full name in the root module.
        layer: The masked layer.
        role: `input`, `hidden` or `output`.
        structure: The pattern its mask obeys.
        budget: Active weights that the distribution gave it.
        may_ablate: Whether an updater may remove its neurons.
        may_reuse: Whether protected weights may be part of the mask; they are read, never written.
    """

    def __init__(
        self, name: str, layer: nn.Module, role: str, structure: Structure, budget: int
    ) -> None:
        self.name = name
        self.layer = layer
        self.role = role
        self.structure = structure
        self.budget = budget
        self.may_ablate = False
        self.may_reuse = False

    @property
    def weight(self) -> nn.Parameter:
        """The parameter, in its own shape."""
        return self.layer.get_parameter("weight")

    @property
    def bias(self) -> nn.Parameter | None:
        """The layer's bias, if it has one."""
        bias = getattr(self.layer, "bias", None)
        return bias if isinstance(bias, nn.Parameter) else None

    @property
    def mask(self) -> Tensor:
        """The mask buffer, in the weight's shape and dtype; 1 = active."""
        return self.layer.get_buffer("weight_mask")

    @property
    def tap(self) -> GradientTap:
        """The view of the dense gradient."""
        tap = self.layer.weight_tap
        assert isinstance(tap, GradientTap)
        return tap

    @property
    def rows(self) -> int:
        """Number of neurons or filters."""
        return self.weight.shape[0]

    @property
    def cols(self) -> int:
        """Dense fan-in."""
        return self.weight.numel() // self.rows

    def active(self) -> Tensor:
        """Return `(rows, cols)` bool, True = active."""
        return self.mask.reshape(self.rows, self.cols) != 0

    def values(self) -> Tensor:
        """Return the `(rows, cols)` weights, zero where inactive."""
        return self.weight.detach().reshape(self.rows, self.cols)

    @property
    def protected(self) -> Tensor | None:
        """Weights of earlier tasks, in the weight's shape, bool; None if there are none."""
        return self.layer.weight_protected  # type: ignore[return-value]

    def protect(self, mask: Tensor | None) -> None:
        """Keep the weights of a `(rows, cols)` bool mask as they are, to the bit, from here on."""
        shaped = None if mask is None else mask.reshape(self.weight.shape).clone()
        self.layer.weight_protected = shaped  # type: ignore[assignment]

    def available(self) -> Tensor | None:
        """Return `(rows, cols)` bool, where the mask may have weights; None: everywhere."""
        if self.protected is None or self.may_reuse:
            return None
        return ~self.protected.reshape(self.rows, self.cols)

    def count(self) -> int:
        """Return the number of active weights."""
        return int((self.mask != 0).sum())

    def start(self, mask: Tensor) -> None:
        """Set a first mask, `(rows, cols)` bool, and zero what it leaves out."""
        self.mask.copy_(mask.reshape(self.mask.shape))
        self.enforce()
        self.refresh()

    def enforce(self) -> None:
        """Zero the inactive weights, but for protected ones."""
        kept = self.mask if self.protected is None else self.mask.bool() | self.protected
        with torch.no_grad():
            self.weight.mul_(kept)

    def fixed(self) -> list[tuple[nn.Parameter, Tensor]]:
        """List the parameters that an optimizer step must leave alone, and where, as bool masks."""
        fixed = []
        if self.protected is not None:
            fixed.append((self.weight, self.protected))
        live = self.layer.live_rows
        if self.bias is not None and isinstance(live, Tensor):
            fixed.append((self.bias, ~live))
        return fixed

    def refresh(self) -> None:
        """Derive from the mask which neurons are ablated, after a change or a load."""
        live = self.active().any(1)
        frozen = self.may_ablate and self.bias is not None and not bool(live.all())
        self.layer.live_rows = live if frozen else None  # type: ignore[assignment]

    def apply(self, delta: Delta) -> None:
        """Make a Delta true: grown weights start at zero, dropped ones are zero from here on."""
        flat = self.mask.view(-1)
        flat[delta.dropped] = 0
        flat[delta.grown] = 1
        moved = delta.moved
        if self.protected is not None:
            moved = moved[~self.protected.view(-1)[moved]]
        with torch.no_grad():
            self.weight.view(-1)[moved] = 0
        self.refresh()
