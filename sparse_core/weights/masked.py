"""A sparse weight whose layer stores all weights and a mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_core.layers.copies import announce, release
from sparse_core.layers.masked import Masked
from sparse_core.weights.delta import Delta, fill
from sparse_core.weights.tensor import ALL, SparseTensor


class MaskedTensor(SparseTensor):
    """The sparse weight of a masked layer; the mask says what is active."""

    # What it holds --------------------------------------------------------------------------------

    @property
    def weight(self) -> nn.Parameter:
        """The parameter, in its own shape."""
        weight = self.layer._parameters.get(self.parameter)
        return self.layer.get_parameter(self.parameter) if weight is None else weight

    @property
    def stands_for(self) -> Tensor | None:
        """None: it is the dense parameter itself."""
        return None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        return tuple(self.weight.shape)

    @property
    def mask(self) -> Tensor:
        """The mask buffer, in the weight's shape and dtype; 1 = active."""
        if self.layer._lineage is not None:
            assert isinstance(self.layer, Masked)
            self.layer.settle()
        mask = self.companion("mask")
        assert mask is not None
        return mask

    def active(self, rows: slice = ALL) -> Tensor:
        """Return `(rows, cols)` bool, True = active."""
        return self.mask.reshape(self.rows, self.cols)[rows] != 0

    def values(self, rows: slice = ALL) -> Tensor:
        """Return the `(rows, cols)` weights; zero where inactive unless latent or protected."""
        return self.weight.detach().reshape(self.rows, self.cols)[rows]

    def write(self, values: Tensor) -> None:
        """Set the active weights from a `(rows, cols)` matrix; inactive ones become zero."""
        new = (values * self.active()).reshape(self.weight.shape).to(self.weight.dtype)
        if self.protected is not None:
            new = torch.where(self.protected, self.frozen, new)
        with torch.no_grad():
            self.weight.copy_(new)

    def count(self) -> int:
        """Return the number of active weights."""
        return int((self.mask != 0).sum())

    def seen(self, rows: slice = ALL) -> Tensor | None:
        """Return `(rows, cols)` bool, ever active (ITOP); None where the topology never moves."""
        seen = self.companion("seen")
        return None if seen is None else seen.reshape(self.rows, self.cols)[rows] != 0

    def remember(self) -> None:
        """Keep track of which weights have ever been active, from here on."""
        self.set_companion("seen", self.mask.clone())

    def like_dense(self) -> Tensor:
        """Return zeros in the shape and dtype of the dense weight."""
        return torch.zeros_like(self.weight, requires_grad=False)

    # The parameter's own layout -------------------------------------------------------------------

    def stored(self, matrix: Tensor) -> Tensor:
        """Bring the active entries of a `(rows, cols)` matrix into the parameter's layout."""
        return matrix.reshape(self.weight.shape)

    def occupied(self) -> Tensor:
        """Return where the parameter's entries are active weights, bool, in its layout."""
        return self.mask != 0

    def marked(self, positions: Tensor) -> Tensor:
        """Return where the parameter's entries are the weights at flat positions, in its layout."""
        marks = torch.zeros_like(self.weight, dtype=torch.bool)
        fill(marks, positions, True)
        return marks

    def carry(self, moments: Tensor, delta: Delta, initial: float) -> None:
        """Bring moments, in the parameter's layout, over a Delta that was just applied."""
        fill(moments, delta.moved, initial)

    def adopt(self, *optimizers: Optimizer) -> None:
        """Do nothing: optimizers that were made for the dense weight train this one already."""

    # Change ---------------------------------------------------------------------------------------

    def start(self, mask: Tensor) -> None:
        """Set a first mask, `(rows, cols)` bool, and zero what it leaves out."""
        release(self.layer)
        self.mask.copy_(mask.reshape(self.mask.shape))
        announce(self.layer, self.name, self.parameter, mask.reshape(-1).nonzero().squeeze(1))
        self.enforce()
        self.refresh()

    def apply(self, delta: Delta) -> None:
        """Make a Delta true: grown weights start at zero, dropped ones are zero from here on.

        Latent weights keep their values, protected ones too.
        """
        release(self.layer)
        if delta.moved.numel():
            announce(self.layer, self.name, self.parameter, delta.grown)
        fill(self.mask, delta.dropped, 0)
        fill(self.mask, delta.grown, 1)
        seen = self.companion("seen")
        if seen is not None:
            fill(seen, delta.grown, 1)
        if not self.latent:
            moved = delta.moved
            if self.protected is not None:
                moved = moved[~self.protected.reshape(-1)[moved]]
            with torch.no_grad():
                fill(self.weight, moved, 0)
            if self.weight.grad is not None:
                self.weight.grad.mul_(self.mask)
        self.refresh()

    def take_over(self, online: SparseTensor, before: Tensor) -> None:
        """Take the topology of the online weight, after an average with it was written here.

        Args:
            online: The weight of the same layer in the online network, unchanged since.
            before: This weight before the average, in its own shape.
        """
        self.start(online.active())
        self._remember_as(online)

    def enforce(self) -> None:
        """Zero the inactive weights, but for protected ones."""
        if self.latent:
            return
        kept = self.mask != 0 if self.protected is None else self.mask.bool() | self.protected
        with torch.no_grad():
            self.weight.mul_(kept)

    def _alive(self) -> Tensor:
        """Return `(rows,)` bool, neurons that have weights."""
        return self.active().any(1)

    # Protection -----------------------------------------------------------------------------------

    @property
    def frozen(self) -> Tensor:
        """What protected weights are worth, in the weight's shape; meaningless elsewhere."""
        frozen = self.companion("frozen")
        return self.weight.detach() if frozen is None else frozen

    def protect(self, mask: Tensor | None) -> None:
        """Keep the weights of a `(rows, cols)` bool mask as they are, to the bit, from here on.

        They are read from a copy, whatever happens to the parameter: an optimizer that the engine
        does not know may move it. `restore` writes them back.
        """
        shaped = None if mask is None else mask.reshape(self.weight.shape).clone()
        self.set_companion("protected", shaped)
        self.set_companion("frozen", None if mask is None else self.weight.detach().clone())

    def _restore_weight(self) -> None:
        if self.protected is not None:
            self.weight.copy_(torch.where(self.protected, self.frozen, self.weight))

    def fixed(self) -> list[tuple[nn.Parameter, Tensor]]:
        """List the parameters that an optimizer step must leave alone, and where, as bool masks."""
        fixed = []
        if self.protected is not None:
            fixed.append((self.weight, self.protected))
        backward = self.companion("backward")
        if backward is not None:
            fixed.append((self.weight, backward == 0))
        return fixed + self._fixed_biases()
