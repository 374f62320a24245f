"""Checkpoints of a strategy of Avalanche between two epochs, and how it goes on from one.

Data stays outside: it is loaded anew, and an experience is known by its number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from continual.avalanche_compat import avalanche
from sparse_core.checkpoints import Checkpoints

PASSING = ("adapted_dataset", "mbatch", "mb_output", "loss", "dataloader")
"""Attributes of a strategy that belong to the batch or the data at hand."""


class Saver(avalanche.core.SupervisedPlugin):  # type: ignore[name-defined, misc]
    """Writes a checkpoint after an epoch when it is time; the last one of a list of plugins.

    Args:
        checkpoints: Of the run.
        state: What is kept, by name; the strategy is part of it.
        outside: What is not, by name; see `outside`.
    """

    def __init__(
        self, checkpoints: Checkpoints, state: Mapping[str, Any], outside: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.checkpoints = checkpoints
        self.state = state
        self.outside = outside

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        """Write one if it is due."""
        if not self.checkpoints.due():
            return
        held = {name: getattr(strategy, name) for name in PASSING}
        for name in held:
            setattr(strategy, name, None)
        try:
            self.checkpoints.save(self.state, outside={**self.outside, "saver": self})
        finally:
            for name, value in held.items():
                setattr(strategy, name, value)


def outside(
    progress: Callable[..., Any], tasks: Sequence[Any], experiences: Sequence[Any]
) -> dict[str, Any]:
    """Return what belongs to the process and the data, and not to the training, by name.

    Args:
        progress: What the run tells its progress to.
        tasks: The data.
        experiences: The same as Avalanche has it.
    """
    data = {f"task {number}": item for number, item in enumerate(tasks)}
    data |= {f"experience {number}": item for number, item in enumerate(experiences)}
    return {"progress": progress, **data}


def go_on(strategy: Any, loader: Any, epochs: int, done: int) -> None:
    """Let a strategy that was pickled after an epoch learn its task to the end.

    Args:
        strategy: The strategy.
        loader: Its batches.
        epochs: Of a task.
        done: Those of them that were done.
    """
    strategy.train_epochs = epochs - done
    strategy.dataloader = loader
    strategy._train_exp(strategy.experience, [])
    strategy.train_epochs = epochs
    strategy._after_training_exp()
    strategy._after_training()
    strategy._train_cleanup()
