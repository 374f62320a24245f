"""`MaskIsolation`: tells a `TaskMasks` model where tasks begin and end in an Avalanche strategy."""

from __future__ import annotations

from typing import Any

from continual.avalanche_compat import avalanche
from continual.masks import TaskMasks

NOT_UNDER_ISOLATION = {
    "GDumbPlugin": "trains a new network on its memory of all tasks",
    "FromScratchTrainingPlugin": "re-initialises all weights before each task",
    "JointTraining": "trains all tasks at once",
}
"""Avalanche's strategies and plugins that would change what earlier tasks have learnt, and why."""

NEVER = {"CoPEPlugin": "compares features with prototypes and has no use for a head for each task"}
"""Those that cannot train a network with a head for each task, and why."""


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
            ValueError: If the strategy, or one of its plugins, cannot go with it.
        """
        if not isinstance(strategy.model, TaskMasks):
            raise TypeError(
                f"MaskIsolation needs a TaskMasks model, not {type(strategy.model).__name__}: "
                "pass model=TaskMasks(model, config) to the strategy"
            )
        refused = NEVER | (NOT_UNDER_ISOLATION if strategy.model.hard else {})
        for part in [strategy, *strategy.plugins]:
            for name in (kind.__name__ for kind in type(part).__mro__):
                if name in refused:
                    remedy = "" if name in NEVER else "; TaskMasks(..., isolation='none') can"
                    raise ValueError(
                        f"{name} cannot go with MaskIsolation: it {refused[name]}{remedy}"
                    )

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """End a task whose online stream did not mark its last experience.

        Avalanche 0.6 does not where experiences are of equal size.
        """
        first = getattr(strategy.experience, "is_first_subexp", False)
        if first and strategy.model.label is not None:
            strategy.model.end()

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Attach to the optimizer; the model began the task when it was adapted.

        In an online stream the length of a task is unknown.
        """
        experience = strategy.experience
        if _at_boundary(experience, "is_first_subexp"):
            online = hasattr(experience, "is_first_subexp")
            steps = None if online else strategy.train_epochs * len(strategy.dataloader)
            strategy.model.attach(strategy.optimizer, steps)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Let other plugins differentiate with respect to every parameter, as MIR does."""
        self._frozen = [p for p in strategy.model.parameters() if not p.requires_grad]
        for parameter in self._frozen:
            parameter.requires_grad_(True)

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Freeze what was frozen."""
        for parameter in self._frozen:
            parameter.requires_grad_(False)
            parameter.grad = None

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """End the task."""
        if _at_boundary(strategy.experience, "is_last_subexp"):
            strategy.model.end()


def _at_boundary(experience: Any, which: str) -> bool:
    """Return whether a task begins or ends here: in an online stream not with each experience."""
    return not getattr(experience, "access_task_boundaries", False) or getattr(experience, which)
