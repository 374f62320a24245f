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

Method `ticket_reinit` is the control to it (Frankle and Carbin 2019, section 2; "Scratch" of Liu et
al. 2019, section 6): rounds and masks are the ticket's, but the last round begins with new weights,
biases among them, drawn from the same distributions by another seed. They are not rescaled to the
density, as the ticket's are not.

Where each round is a training of its own, with a new optimizer, replay buffer and whatever else, a
`Round` takes what the last one left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparse_core.budgets.ranking import top_of_network
from sparse_core.building import sparsify
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.engine import Engine
from sparse_core.streams import stream
from sparse_core.weights.delta import Delta

Draw = Callable[[], Engine]
"""Builds an engine's network again, with other weights, before training."""


def other_seed(seed: int) -> int:
    """Return the seed, below 2^31, of the weights that `ticket_reinit` draws for its last round.

    Args:
        seed: The run's own.
    """
    return stream(seed, "ticket_reinit").initial_seed() >> 32


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
        engine: Of a method that trains in rounds, before training.
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

    def end(self, index: int, draw: Draw) -> Legacy:
        """Prune for round `index`, after training; the network stays as it is.

        Args:
            index: Number of the next round, from 1 to `rounds`.
            draw: Asked before the last round of a method that begins it with new weights.
        """
        config = self.engine.config
        anew = config.facts.redraws and index == config.rounds
        early = _weights(draw()) if anew else self._early
        return Legacy(pruned(self.engine, index), early)


class LotteryTicket:
    """Yields the engine for each round, its mask pruned by magnitude and its weights rewound.

    Args:
        module: A dense module; it becomes sparse in place.
        config: Of method `ticket` or `ticket_reinit`, with the final sparsity, `rounds` and
            `rewind_step`.
        anew: Builds such a module with other weights; only `ticket_reinit` needs it.

    Raises:
        InputError: If the configuration is of another method, or `anew` is missing.
    """

    def __init__(
        self, module: nn.Module, config: SparseConfig, anew: Callable[[], nn.Module] | None = None
    ) -> None:
        if not config.facts.in_rounds:
            raise InputError(
                f"method={config.method!r}: a lottery ticket needs method 'ticket'", field="method"
            )
        if config.facts.redraws and anew is None:
            raise InputError(
                f"anew=None: must build a module with other weights, method {config.method!r} "
                "begins its last round with them",
                field="anew",
            )
        self.engine = sparsify(module, config)
        self._first = Round(self.engine)
        self._anew = anew

    def __iter__(self) -> Iterator[Engine]:
        yield self.engine
        for index in range(1, self.engine.config.rounds + 1):
            rewind(self.engine, self._first.end(index, self._draw))
            yield self.engine

    def _draw(self) -> Engine:
        assert self._anew is not None
        config = self.engine.config
        return sparsify(self._anew(), dataclasses.replace(config, seed=other_seed(config.seed)))


def pruned(engine: Engine, index: int) -> dict[str, Tensor]:
    """Return the masks that a round begins with, by the weights as they are.

    Args:
        engine: Of a method that trains in rounds.
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
    """Begin a round: masks of the last one's end, weights of its beginning or new ones.

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
