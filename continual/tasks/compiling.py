"""Compiled passes of the task in training, where its network has them.

A network of layers that follow each other, condensed ones among them, is computed forward and
backward as a tape each (`sparse_core.step.under_autograd`), with the numbers of its own passes. To
Avalanche, its plugins and the optimizer nothing changes.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn

from continual.tasks.attaching import Attachable
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.torch_path import opaque
from sparse_core.step import Passes


class Compilable(Attachable):
    """A holder of tasks whose training can be compiled.

    Attributes:
        model: The network.
        compiled: Whether batches of the task in training are computed by compiled passes.
    """

    model: nn.Module
    compiled: bool = True
    _passes: Passes | None = None
    _told = False

    @property
    def uncompiled(self) -> str | None:
        """Why the last training batch was not compiled, for something in the network.

        None: it was, there was none yet, or torch did something unusual with that batch alone.
        """
        return None if self._passes is None else self._passes.reason

    def _answer(self, x: Tensor) -> Tensor:
        """Compute the logits of the task in training."""
        out = self._compiled_answer(x) if self.compiled else None
        return self.model(x) if out is None else out

    @opaque
    def _compiled_answer(self, x: Tensor) -> Tensor | None:
        if self._passes is None:
            self._passes = Passes(self.model, "the network")
        out = self._passes(x)
        if out is None and not self._told and self._passes.reason is not None:
            self._tell(self._passes.reason)
        return out

    def _tell(self, reason: str) -> None:
        """Say once why a sequence of linear layers is not compiled."""
        self._told = True
        layers = [module for module in self.model.modules() if module._parameters]
        linear = all(isinstance(layer, (nn.Linear, nn.LayerNorm)) for layer in layers)
        sequence = isinstance(self.model, nn.Sequential)
        if sequence and linear and any(isinstance(layer, CondensedLinear) for layer in layers):
            warnings.warn(
                f"{type(self).__name__}: training is not compiled, since {reason}; compiled=False "
                "says nothing",
                stacklevel=2,
            )

    def _reconsider(self) -> None:
        """Look at the network anew when the next batch comes."""
        self._passes = None

    def _has_begun(self) -> None:
        self._reconsider()
        super()._has_begun()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_passes": None}
