"""Iterative lottery tickets: train, prune, rewind, and train again.

    config = SparseConfig(method="ticket", sparsity=0.9, scope="global", rounds=4, rewind_step=500)
    for engine in LotteryTicket(model, config):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        engine.attach(optimizer)
        train(model, optimizer)

(Frankle and Carbin 2019; rewinding to early weights: Frankle et al. 2020.) Round r of R trains at
density d^(r / R): the first is dense, the last, round R, has the sparsity of the configuration.
What is pruned are the smallest weights at the end of a round: of each layer, where d is what the
distribution gives to it, or with `scope="global"` of all together, where d is that of the network.

Where each round is a training of its own, with a new optimizer, replay buffer and whatever else, a
`Round` takes what the last one left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparse_core.budgets.ranking import top_of_network
from sparse_core.building import sparsify
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.engine import Engine
from sparse_core.weights.delta import Delta


@dataclass(frozen=True)
class Legacy:
    """What a round leaves to the next.

    Attributes:
        masks: Name of a weight -> its mask, `(rows, cols)` bool.
        weights: Name of a parameter -> what it is rewound to.
    """

    masks: dict[str, Tensor]
    weights: dict[str, Tensor]


class Round:
    """One round of one network.

    Args:
        engine: Of method `ticket`, before training.
        before: What the last round left; None: this is the first.
    """

    def __init__(self, engine: Engine, before: Legacy | None = None) -> None:
        self.engine = engine
        if before is not None:
            rewind(engine, before)
        self._early = _weights(engine) if before is None else before.weights
        if before is None and engine.config.rewind_step:
            engine.on_step.append(self._remember)

    def _remember(self, steps: int) -> None:
        if steps == self.engine.config.rewind_step:
            self._early = _weights(self.engine)

    def end(self, index: int) -> Legacy:
        """Prune for round `index`, after training; the network stays as it is.

        Args:
            index: Number of the next round, from 1 to `rounds`.
        """
        return Legacy(pruned(self.engine, index), self._early)


class LotteryTicket:
    """Yields the engine for each round, its mask pruned by magnitude and its weights rewound.

    Args:
        module: A dense module; it becomes sparse in place.
        config: Of method `ticket`, with the final sparsity, `rounds` and `rewind_step`.

    Raises:
        InputError: If the configuration is of another method.
    """

    def __init__(self, module: nn.Module, config: SparseConfig) -> None:
        if not config.facts.in_rounds:
            raise InputError(
                f"method={config.method!r}: a lottery ticket needs method 'ticket'", field="method"
            )
        self.engine = sparsify(module, config)
        self._first = Round(self.engine)

    def __iter__(self) -> Iterator[Engine]:
        yield self.engine
        for index in range(1, self.engine.config.rounds + 1):
            rewind(self.engine, self._first.end(index))
            yield self.engine


def pruned(engine: Engine, index: int) -> dict[str, Tensor]:
    """Return the masks that a round begins with, by the weights as they are.

    Args:
        engine: Of method `ticket`.
        index: Number of the round.
    """
    tensors, part = engine.tensors, index / engine.config.rounds
    together = engine.config.scope == "global"
    masks: dict[str, Tensor] = {}
    for group in [tensors] if together else [[tensor] for tensor in tensors]:
        total = sum(tensor.places for tensor in group)
        left = sum(tensor.budget for tensor in group)
        found = top_of_network(
            [tensor.values().abs() for tensor in group],
            [tensor.active() for tensor in group],
            max(1, round(total * (left / total) ** part)),
        )
        masks |= {tensor.name: mask for tensor, mask in zip(group, found, strict=True)}
    return masks


@torch.no_grad()
def rewind(engine: Engine, legacy: Legacy) -> None:
    """Begin a round: masks of the last one's end, weights of its beginning.

    Networks that follow take the masks; their weights are the caller's affair.
    """
    for tensor in engine.tensors:
        engine.apply(tensor, Delta.between(tensor.active(), legacy.masks[tensor.name]))
    for name, parameter in engine.root.named_parameters():
        early = legacy.weights.get(name)
        if early is not None and early.shape == parameter.shape:
            parameter.copy_(early)
    engine.enforce()


def _weights(engine: Engine) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in engine.root.named_parameters()}
