"""Copies of sparse layers that somebody averages by hand.

    ema = copy.deepcopy(net)
    for mine, theirs in zip(ema.parameters(), net.parameters()):
        mine.mul_(0.999).add_(theirs, alpha=0.001)

Such code writes parameters and knows nothing of topologies. So a copied layer is told when the
topology of its original changes, until the copy trains itself.

For a masked layer the mean is right: its mask is extended by the weights that the original has
grown since. (Weights anywhere else do not come from an average; noise on all weights stays masked.)
In a condensed layer, and where inactive weights keep values, the same place means another weight
after a change of the topology: a copy that was written to after a change raises an error when it is
used. `sparse_core.averages` is the way out.
"""

from __future__ import annotations

import copy
import warnings
import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparse_core.checks import InputError
from sparse_core.layers.dense import Sparse

WAY_OUT = (
    "was averaged by hand with a network whose topology has moved since, place by place, so its "
    "weights are no mean; use torch.optim.swa_utils.AveragedModel, or Engine.follow for a target"
)


@dataclass
class Lineage:
    """What a copied layer knows of its original.

    Attributes:
        original: The layer that it is a copy of, as long as there is one.
        name: The layer's name, once the original's topology has changed.
        grown: By masked parameter, where the original has got weights since, bool.
        before: Parameters whose places mean something else now, and what they were then.
        mixed: Whether these were written to between two changes.
    """

    original: weakref.ref[Copied] | None = None
    name: str = "layer"
    grown: dict[str, Tensor] = field(default_factory=dict)
    before: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    mixed: bool = False

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"original": None}

    def written(self, parameters: list[Tensor]) -> bool:
        """Whether parameters were written to since the last change; others took no part in it."""
        return any(
            now is then and not torch.equal(now, value)
            for now, (then, value) in zip(parameters, self.before, strict=False)
        )


class Copied(Sparse):
    """A layer that knows whether it is a copy of another."""

    _lineage: Lineage | None = None

    def _placed(self) -> list[Tensor]:
        """List the parameters whose places mean something else after a change of the topology."""
        return []

    def check_average(self) -> None:
        """Raise an error if the layer was averaged by hand in a way that cannot be right.

        Raises:
            InputError: In one line that names the layer and the way out.
        """
        lineage = self._lineage
        if lineage is not None and (lineage.mixed or lineage.written(self._placed())):
            raise InputError(f"layer {lineage.name!r}: this copy {WAY_OUT}")

    def _original_moves(self, lineage: Lineage, parameter: str, grown: Tensor | None) -> None:
        placed = self._placed()
        if not lineage.mixed and lineage.written(placed):
            lineage.mixed = True
            warnings.warn(f"layer {lineage.name!r}: a copy of it {WAY_OUT}", stacklevel=2)
        lineage.before = [(tensor, tensor.detach().clone()) for tensor in placed]

    def __deepcopy__(self, memo: dict[int, Any]) -> Copied:
        reduced = self.__reduce_ex__(4)
        assert isinstance(reduced, tuple)
        make, arguments, state = reduced[:3]
        twin: Copied = make(*arguments)
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(state, memo))  # type: ignore[no-untyped-call]
        original = self
        if self._lineage is not None and self._lineage.original is not None:
            original = self._lineage.original() or self
            original = memo.get(id(original), original) if original is not self else self
        _link(twin, original)
        for other in copies_of(self):
            if id(other) in memo:  # copied together with this layer, and before it
                _link(memo[id(other)], twin)
        return twin


_COPIES: weakref.WeakKeyDictionary[nn.Module, weakref.WeakSet[Copied]] = weakref.WeakKeyDictionary()


def copies_of(layer: nn.Module) -> list[Copied]:
    """List the copies of a layer that have not become originals, nor changed their kind."""
    return [copied for copied in _COPIES.get(layer, ()) if "_lineage" in vars(copied)]


def announce(layer: nn.Module, name: str, parameter: str, grown: Tensor | None = None) -> None:
    """Tell the copies of a layer that its topology is about to change, or has just changed.

    Args:
        layer: The layer.
        name: Its name, for messages.
        parameter: The parameter whose topology it is.
        grown: `(n,) int64`, flat positions that get weights; None where that does not matter.
    """
    for copied in copies_of(layer):
        if copied._lineage is not None:
            copied._lineage.name = name
            copied._original_moves(copied._lineage, parameter, grown)


def release(layer: nn.Module) -> None:
    """Treat a layer as an original, not as a copy: it trains itself, or is made anew."""
    vars(layer).pop("_lineage", None)


def see_training(layer: Copied, output: Tensor) -> None:
    """Treat a layer as an original once a gradient flows through its output."""
    if layer._lineage is not None and output.requires_grad:
        _see_training(layer, output)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _see_training(layer: Copied, output: Tensor) -> None:
    output.register_hook(lambda _: release(layer))  # type: ignore[no-untyped-call]


def _link(copied: Copied, original: Copied) -> None:
    lineage = copied._lineage
    if lineage is None:
        lineage = copied._lineage = Lineage()
    former = None if lineage.original is None else lineage.original()
    if former is not None:
        _COPIES[former].discard(copied)
    lineage.original = weakref.ref(original)
    _COPIES.setdefault(original, weakref.WeakSet()).add(copied)
