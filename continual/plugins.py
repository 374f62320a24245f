"""`MaskIsolation`: tells a `TaskMasks` model where tasks begin and end in an Avalanche strategy."""

from __future__ import annotations

from typing import Any

from continual.avalanche_compat import avalanche
from continual.masks import TaskMasks


class MaskIsolation(avalanche.core.SupervisedPlugin):  # type: ignore[name-defined, misc]
    """Moves the topology of `TaskMasks` on the strategy's optimizer and ends tasks.

    Add one to the plugins of a strategy whose model is `TaskMasks`:

        strategy = Naive(model=TaskMasks(model, config), ..., plugins=[MaskIsolation()])
    """

    supports_distributed = False

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Check that there are tasks to tell apart.

        Raises:
            TypeError: If the strategy's model is not `TaskMasks`.
        """
        if not isinstance(strategy.model, TaskMasks):
            raise TypeError(
                f"MaskIsolation needs a TaskMasks model, not {type(strategy.model).__name__}: "
                "pass model=TaskMasks(model, config) to the strategy"
            )

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Attach to the optimizer; the model began the task when it was adapted."""
        steps = strategy.train_epochs * len(strategy.dataloader)
        strategy.model.attach(strategy.optimizer, steps)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """End the task."""
        strategy.model.end()
