"""Which weights of a matrix are active, and the one way in which that changes: a `Delta`.

    SparseTensor       what all code sees of a sparse weight, whatever its layer stores
    MaskedTensor       the layer stores all weights and a mask     `sparse_core.weights.masked`
    CondensedTensor    the layer stores the active weights only    `sparse_core.weights.condensed`

Weights, optimizer state, target networks, logs and metrics all consume the same Delta; nothing else
changes a topology once training has begun.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from operator import is_not

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_core.budgets.patterns import ConstantFanIn
from sparse_core.budgets.structure import Structure
from sparse_core.layers.companions import key
from sparse_core.layers.tap import GradientTap
from sparse_core.weights.delta import Delta

ALL = slice(None)
"""All rows."""

BIASES = {"weight": "bias", "in_proj_weight": "in_proj_bias"}


class SparseTensor(ABC):
    """One sparse weight of a layer, seen as a `(rows, cols)` matrix.

    A row is a neuron, a filter or a token. The topology, not the value, says whether a weight is
    active: an active weight may well be zero.

    Attributes:
        name: The full name, in the root module, of the dense parameter.
        layer: The layer.
        parameter: The dense parameter's name in the layer.
        role: `input`, `hidden`, `output` or `qkv`.
        structure: The pattern that its topology obeys.
        budget: Active weights that the distribution gave it.
        initial_budget: Active weights at the beginning, if the density moves; else the budget.
        may_ablate: Whether an updater may remove its neurons.
        may_reuse: Whether protected weights may be active; they are read, never written.
        spare: So many free cells of each lane are left to later tasks when other lanes are ablated.
        latent: Whether inactive weights keep their values.
        reader: The attention module that it is a projection of; None: it is none.
    """

    def __init__(
        self,
        name: str,
        layer: nn.Module,
        parameter: str,
        role: str,
        structure: Structure,
        budget: int,
    ) -> None:
        self.name = name
        self.layer = layer
        self.parameter = parameter
        self.role = role
        self.structure = structure
        self.budget = budget
        self.initial_budget = budget
        self.may_ablate = False
        self.may_reuse = False
        self.spare = 0
        self.latent = False
        self.reader: nn.MultiheadAttention | None = None
        # Earlier tasks' weights and neurons, their versions, and what these leave of a lane.
        self._widest: tuple[tuple[Tensor | None, ...], tuple[int | None, ...], int] | None = None

    # What it is -----------------------------------------------------------------------------------

    @property
    @abstractmethod
    def weight(self) -> nn.Parameter:
        """The parameter that trains, in its own layout."""

    @property
    @abstractmethod
    def stands_for(self) -> Tensor | None:
        """The dense parameter that it replaces, until an optimizer adopts it; None: no other."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of the dense weight."""

    @property
    def rows(self) -> int:
        """Number of neurons, filters or tokens."""
        return self.shape[0]

    @property
    def cols(self) -> int:
        """Dense fan-in."""
        return prod(self.shape[1:])

    @property
    def numel(self) -> int:
        """Number of weights, inactive ones included."""
        return self.rows * self.cols

    @property
    def condensed_stem(self) -> str:
        """How names in the root module's state begin of what its condensed form stores.

        `0.` of `0.weight`, `attention.in_proj.` of `attention.in_proj_weight`.
        """
        stem = self.name.removesuffix("weight")
        return f"{stem[:-1]}." if stem.endswith("_") else stem

    @property
    def dense_place(self) -> tuple[nn.Module, str]:
        """The layer that has the dense parameter when nothing is condensed, and its name there."""
        parameter = self.name.rpartition(".")[2]
        apart = self.reader is not None and parameter != self.parameter
        return (self.reader, parameter) if apart and self.reader else (self.layer, self.parameter)

    @property
    def bias_name(self) -> str:
        """Full name, in the root module, of the bias of its neurons, which they may not have."""
        layer, _, parameter = self.name.rpartition(".")
        if parameter != self.parameter:  # a module of its own now
            return f"{self.condensed_stem}bias"
        return f"{layer}.{BIASES[parameter]}" if layer else BIASES[parameter]

    @property
    def bias(self) -> nn.Parameter | None:
        """The bias of its neurons, if they have one."""
        return self.layer._parameters.get(BIASES.get(self.parameter, ""))

    @property
    def tap(self) -> GradientTap:
        """The view of the dense gradient."""
        tap = getattr(self.layer, f"{self.parameter}_tap")
        assert isinstance(tap, GradientTap)
        return tap

    def companion(self, what: str) -> Tensor | None:
        """Return a companion by its name in `sparse_core.layers.companions`; None: not used."""
        name = key(self.parameter, what)
        found = self.layer._buffers.get(name)
        return self.layer._parameters.get(name) if found is None else found

    def set_companion(self, what: str, value: Tensor | None) -> None:
        """Replace a companion."""
        if value is not None or self.companion(what) is not None:
            setattr(self.layer, key(self.parameter, what), value)

    @property
    def padding(self) -> int | None:
        """The row of an embedding that never has active weights, its `padding_idx`; else None."""
        return self.layer.padding_idx if isinstance(self.layer, nn.Embedding) else None

    @property
    def places(self) -> int:
        """Number of places where weights can be: all but the row of padding."""
        return self.numel if self.padding is None else self.numel - self.cols

    @property
    def full(self) -> bool:
        """Whether it is dense from beginning to end, so that nothing can move."""
        return min(self.budget, self.initial_budget) >= self.places

    # What it holds --------------------------------------------------------------------------------

    @abstractmethod
    def active(self, rows: slice = ALL) -> Tensor:
        """Return `(rows, cols)` bool, True = active."""

    @abstractmethod
    def values(self, rows: slice = ALL) -> Tensor:
        """Return the `(rows, cols)` weights; zero where inactive unless latent or protected."""

    @abstractmethod
    def write(self, values: Tensor) -> None:
        """Set the active weights from a `(rows, cols)` matrix; inactive ones become zero."""

    @abstractmethod
    def count(self) -> int:
        """Return the number of active weights."""

    @abstractmethod
    def seen(self, rows: slice = ALL) -> Tensor | None:
        """Return `(rows, cols)` bool, ever active (ITOP); None where the topology never moves."""

    @abstractmethod
    def remember(self) -> None:
        """Keep track of which weights have ever been active, from here on."""

    @abstractmethod
    def like_dense(self) -> Tensor:
        """Return zeros in the shape and dtype of the dense weight."""

    # The parameter's own layout -------------------------------------------------------------------

    @abstractmethod
    def stored(self, matrix: Tensor) -> Tensor:
        """Bring the active entries of a `(rows, cols)` matrix into the parameter's layout."""

    @abstractmethod
    def occupied(self) -> Tensor:
        """Return where the parameter's entries are active weights, bool, in its layout."""

    @abstractmethod
    def marked(self, positions: Tensor) -> Tensor:
        """Return where the parameter's entries are the weights at flat positions, in its layout."""

    @abstractmethod
    def carry(self, moments: Tensor, delta: Delta, initial: float) -> None:
        """Bring moments, in the parameter's layout, over a Delta that was just applied."""

    @abstractmethod
    def adopt(self, *optimizers: Optimizer) -> None:
        """Let optimizers that were made for the dense weight train this one, with their state."""

    # Change ---------------------------------------------------------------------------------------

    @abstractmethod
    def start(self, mask: Tensor) -> None:
        """Set a first topology, `(rows, cols)` bool; weights that it leaves out are lost."""

    @abstractmethod
    def apply(self, delta: Delta) -> None:
        """Make a Delta true: grown weights start at zero, dropped ones are gone from here on."""

    def settle(self) -> None:  # noqa: B027 - most keep nothing
        """Forget what was kept of the last Delta, once all that follows it has followed."""

    def follow(self, online: SparseTensor, delta: Delta) -> None:
        """Make a Delta true that was just applied to the online weight, whose copy this is."""
        self.apply(delta)

    @abstractmethod
    def take_over(self, online: SparseTensor, before: Tensor) -> None:
        """Take the topology of the online weight, after an average with it was written here.

        Args:
            online: The weight of the same layer in the online network, unchanged since.
            before: This weight before the average, in its own layout.
        """

    @abstractmethod
    def enforce(self) -> None:
        """Zero all inactive weights, after weights were written from outside."""

    def refresh(self) -> None:
        """Derive which biases train (not those of ablated neurons), after a change or a load."""
        neurons = self.companion("reserved")
        live = self._alive() if self.may_ablate else None
        if neurons is not None:
            live = ~neurons if live is None else live & ~neurons
        frozen = live is not None and self.bias is not None and not bool(live.all())
        self.set_companion("live", live if frozen else None)

    @abstractmethod
    def _alive(self) -> Tensor:
        """Return `(rows,)` bool, neurons that have weights."""

    def _remember_as(self, online: SparseTensor) -> None:
        seen, theirs = self.companion("seen"), online.companion("seen")
        if seen is not None and theirs is not None:
            seen.copy_(theirs)

    # Protection -----------------------------------------------------------------------------------

    @property
    def protected(self) -> Tensor | None:
        """Weights of earlier tasks, in the dense weight's shape, bool; None if there are none."""
        return self.companion("protected")

    @abstractmethod
    def protect(self, mask: Tensor | None) -> None:
        """Keep the weights of a `(rows, cols)` bool mask, those of earlier tasks, from here on."""

    def lend(
        self, weights: Tensor | None, neurons: Tensor | None, biases: Tensor | None = None
    ) -> None:
        """Let the layer read weights of earlier tasks in neurons of those tasks.

        Args:
            weights: `(rows, cols)` bool, protected weights that are read beside the mask; None:
                there are none.
            neurons: `(rows,)` bool, the neurons: the mask has no weights there, and their biases
                do not train.
            biases: `(rows,)`, what those biases are; None: they stay what they are.
        """
        shaped = None if weights is None else weights.reshape(self.shape).clone()
        self.set_companion("lent", shaped)
        self.set_companion("reserved", None if neurons is None else neurons.clone())
        self.set_companion("given", None if biases is None else biases.clone())
        self.refresh()

    @torch.no_grad()
    def restore(self) -> None:
        """Write weights and biases of earlier tasks back into the parameters, to be saved."""
        self._restore_weight()
        neurons, biases = self.companion("reserved"), self.companion("given")
        if self.bias is not None and neurons is not None and biases is not None:
            self.bias[neurons] = biases[neurons]

    @abstractmethod
    def _restore_weight(self) -> None:
        """Write protected weights back into the parameter."""

    @abstractmethod
    def fixed(self) -> list[tuple[nn.Parameter, Tensor]]:
        """List the parameters that an optimizer step must leave alone, and where, as bool masks."""

    def _fixed_biases(self) -> list[tuple[nn.Parameter, Tensor]]:
        bias, live = self.bias, self.companion("live")
        return [] if bias is None or live is None else [(bias, ~live)]

    # Room -----------------------------------------------------------------------------------------

    def open_lanes(self) -> Tensor | None:
        """Return `(lanes,)` bool, those without rows that are closed; None: all are open."""
        neurons = self._closed_rows()
        if neurons is None or not isinstance(self.structure, ConstantFanIn):
            return None
        return ~self.structure.any_in_cell(neurons.unsqueeze(1)).any(1)

    def closed(self) -> Tensor | None:
        """Return `(rows, cols)` bool, where the mask may have no weights; None: nowhere."""
        shape = (self.rows, self.cols)
        if self.protected is not None and not self.may_reuse:
            closed = self.protected.reshape(shape)
        elif self.padding is not None:
            closed = torch.zeros(shape, dtype=torch.bool, device=self.weight.device)
        else:
            return None
        rows = self._closed_rows()
        return closed if rows is None else closed | rows.unsqueeze(1)

    def available(self) -> Tensor | None:
        """Return `(rows, cols)` bool, where the mask may have weights; None: everywhere."""
        closed = self.closed()
        return None if closed is None else ~closed

    def widest(self) -> int:
        """Return how large a constant fan-in can be, beside earlier tasks and those to come."""
        tasks = self.protected, self.companion("reserved")
        seen = self.may_reuse, *(None if task is None else task._version for task in tasks)
        known = self._widest
        if known is None or known[1] != seen or any(map(is_not, known[0], tasks)):
            known = self._widest = tasks, seen, self._free_cells()
        return known[2] - self.spare

    def _free_cells(self) -> int:
        """Return how many cells the fullest open lane has beside earlier tasks."""
        closed, open_lanes = self.closed(), self.open_lanes()
        if closed is None:
            return self.cols
        taken = self.structure.any_in_cell(closed)
        cells = taken.shape[1] - taken.view(torch.uint8).sum(1, dtype=torch.int32)
        return int((cells if open_lanes is None else cells[open_lanes]).min())

    def _closed_rows(self) -> Tensor | None:
        """Return `(rows,)` bool, earlier tasks' neurons and the row of padding; None: no row."""
        closed = self.companion("reserved")
        if self.padding is None:
            return closed
        closed = self.weight.new_zeros(self.rows, dtype=torch.bool) if closed is None else closed
        return closed.index_fill(0, torch.tensor(self.padding, device=closed.device), True)
