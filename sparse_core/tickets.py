"""Iterative lottery tickets: train, prune, rewind, and train again.

    config = SparseConfig(method="static", sparsity=0.9, scope="global")
    for engine in LotteryTicket(model, config, rounds=4, rewind_step=500):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        engine.attach(optimizer)
        train(model, optimizer)

(Frankle and Carbin 2019; rewinding to early weights: Frankle et al. 2020.) Round r of R trains at
density d^(r / R): the first is dense, the last, round R, has the sparsity of the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from sparse_core.budgets.ranking import top_of_network
from sparse_core.building import sparsify
from sparse_core.checks import InputError, at_least
from sparse_core.config import SparseConfig
from sparse_core.engine import Engine


class LotteryTicket:
    """Yields the engine of each round, its mask pruned by magnitude and its weights rewound.

    Args:
        module: A dense module; it becomes sparse in place.
        config: `static` and unstructured, with the final sparsity. Weights are ranked within their
            layer, with `scope="global"` over all of them.
        rounds: Prunings (R).
        rewind_step: Weights are rewound to what they were after so many optimizer steps of the
            first round; 0: to the initial ones.

    Raises:
        ValueError: If the configuration is not static and unstructured, or `rounds` is not
            positive.
    """

    def __init__(
        self, module: nn.Module, config: SparseConfig, *, rounds: int, rewind_step: int = 0
    ) -> None:
        at_least("rounds", rounds, 1)
        at_least("rewind_step", rewind_step, 0)
        moves = not config.facts.sparse or config.facts.updater is not None
        if moves or config.structure_in_force != "unstructured":
            raise InputError(
                f"method={config.method!r}, structure={config.structure_in_force!r}: a lottery "
                "ticket is static and unstructured",
                field="method",
            )
        self.config = config
        self.rounds = rounds
        self.rewind_step = rewind_step
        self.engine = sparsify(module, replace(config, sparsity=0.0, initialisation="keep"))
        self.engine.on_step.append(self._remember)
        self._early = self._weights()

    def __iter__(self) -> Iterator[Engine]:
        yield self.engine
        for index in range(1, self.rounds + 1):
            self._prune(self.config.density ** (index / self.rounds))
            self._rewind()
            yield self.engine

    def _remember(self, steps: int) -> None:
        if steps == self.rewind_step:
            self._early = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach().clone() for k, v in self.engine.root.named_parameters()}

    def _prune(self, density: float) -> None:
        tensors = self.engine.tensors
        if self.config.scope == "global":
            groups = [tensors]
        else:
            groups = [[tensor] for tensor in tensors]
        for group in groups:
            total = sum(tensor.places for tensor in group)
            masks = top_of_network(
                [tensor.values().abs() for tensor in group],
                [tensor.active() for tensor in group],
                max(1, round(density * total)),
            )
            for tensor, mask in zip(group, masks, strict=True):
                tensor.start(mask)

    def _rewind(self) -> None:
        with torch.no_grad():
            for name, parameter in self.engine.root.named_parameters():
                parameter.copy_(self._early[name])
        for tensor in self.engine.tensors:
            tensor.enforce()
