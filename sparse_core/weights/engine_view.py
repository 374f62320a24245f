"""The part of an engine that averages and the watch for unknown optimizers need."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer

from sparse_core.weights.tensor import SparseTensor


class EngineView(Protocol):
    """The sparse weights of one network, and who trains them; `sparse_core.engine.Engine` is one.

    Attributes:
        tensors: The sparse weights.
        root: The network.
        updater: What moves the topology; None: nothing does.
        many_tasks: Whether the network learns one task after another.
    """

    tensors: list[SparseTensor]
    root: nn.Module
    updater: Any
    many_tasks: bool

    @property
    def trainers(self) -> list[Optimizer]:
        """The optimizers that train the weights."""

    @property
    def stepping(self) -> bool:
        """Whether the optimizer whose steps count is making a step."""

    @property
    def steps(self) -> int:
        """Optimizer steps done."""

    def retire(self) -> None:
        """Stop moving the topology for good."""

    def resume(self) -> None:
        """Read the counters again, after they were written from outside."""


def engines_in(root: nn.Module) -> list[EngineView]:
    """Return the engines of a network and of the networks in it."""
    found = (vars(module).get("sparse_engine") for module in root.modules())
    return [engine for engine in found if engine is not None]
