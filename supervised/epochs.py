"""`Epochs`: training by passes over the data, of which the best on data held out is what counts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from sparse_core.engine import Engine
from sparse_core.metrics.tally import UpdateTally

Progress = Callable[[float, Mapping[str, float]], None]
"""Takes the fraction of a run that is done and what is known by then."""

Steps = Callable[[int], Iterable[tuple[float, int]]]
"""Makes the optimizer steps of an epoch, counted from 1; yields a step's mean loss and samples."""


class Epochs:
    """The epochs of a run, and the best of them.

    Args:
        model: Put into training mode for each epoch, and to its best state in the end.
        engine: Moves the model's topology. Its horizon becomes the length of the run.
        steps: Optimizer steps of an epoch.
        epochs: How many, at most.
        patience: Training stops after so many epochs that are no better; None: never.
        shown: What the score on the data held out is called while the run goes on.
        progress: Told after each step and each epoch.

    Attributes:
        curve: Epochs and the score on the data held out.
        losses: Mean loss of each epoch.
        best: The epoch of the highest score, of those in which the model is as sparse as asked:
            methods that start dense are so in the end.
    """

    def __init__(
        self,
        model: nn.Module,
        engine: Engine,
        *,
        steps: int,
        epochs: int,
        patience: int | None,
        shown: str,
        progress: Progress,
    ) -> None:
        self._model, self._engine = model, engine
        self._steps, self._epochs, self._patience = steps, epochs, patience
        self._shown, self._progress = shown, progress
        self.curve: list[list[float]] = []
        self.losses: list[float] = []
        self.best = 0
        self._best_state: dict[str, Any] = {}
        engine.set_horizon(epochs * steps)

    def train(self, steps: Steps, score: Callable[[], float]) -> dict[str, Any]:
        """Go through the epochs until there are no more or none has helped for a while.

        Args:
            steps: Makes the steps of an epoch.
            score: Looks at the data held out; the higher the better.

        Returns:
            `curve`, `losses` and `best_epoch`; `valid_score`, the score of that epoch, by which
            hyper-parameters may be chosen; `updates` and `still` (see `UpdateTally`).

        Raises:
            FloatingPointError: If a loss is NaN or infinite.
        """
        moves = UpdateTally({"network": self._engine})
        for epoch in range(1, self._epochs + 1):
            self._model.train()
            self.losses.append(self._mean_loss(steps(epoch), epoch))
            self.curve.append([epoch, score()])
            self._tell(epoch)
            if self._is_best(epoch):
                self.best = epoch
                self._best_state = copy.deepcopy(self._model.state_dict())
            if self.best and self._patience is not None and epoch - self.best >= self._patience:
                break
        moves.end()
        updates = moves.result()
        self._model.load_state_dict(self._best_state)
        return {
            "valid_score": self.curve[self.best - 1][1],
            "curve": self.curve,
            "losses": self.losses,
            "best_epoch": self.best,
            **updates,
        }

    def _mean_loss(self, steps: Iterable[tuple[float, int]], epoch: int) -> float:
        """Go through the steps of an epoch; return the mean loss of a sample."""
        total, samples = 0.0, 0
        for index, (loss, count) in enumerate(steps, 1):
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} in epoch {epoch}; try a smaller lr")
            total, samples = total + loss * count, samples + count
            self._tell(epoch - 1 + index / self._steps)
        return total / samples

    def _tell(self, done: float) -> None:
        """Say how many epochs are done."""
        numbers = {self._shown: self.curve[-1][1]} if self.curve else {}
        self._progress(done / self._epochs, numbers)

    def _is_best(self, epoch: int) -> bool:
        if epoch < self._epochs and not self._is_sparse():
            return False
        return not self.best or self.curve[-1][1] > self.curve[self.best - 1][1]

    def _is_sparse(self) -> bool:
        """Whether the model is as sparse as asked."""
        if not self._engine.config.density_moves:
            return True
        active = {layer.name: layer.active for layer in self._engine.layers()}
        return all(active[tensor.name] <= tensor.budget for tensor in self._engine.tensors)
