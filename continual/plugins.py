"""`MaskIsolation`: tells a `TaskMasks` model where tasks begin and end in an Avalanche strategy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from continual.avalanche_compat import avalanche
from continual.masks import TaskMasks
from sparse_core.checks import InputError
from sparse_core.condensed import CondensedTensor
from sparse_core.config import SparseConfig
from sparse_core.registry import METHODS
from sparse_core.schedule import Schedule

NOT_UNDER_ISOLATION = {
    "GDumbPlugin": "trains a new network on its memory of all tasks",
    "JointTraining": "trains all tasks at once",
    "CWRStarPlugin": "writes into the head of a task that has ended",
}
"""Avalanche's strategies and plugins that would change what earlier tasks have learnt, and why."""

HARD_REMEDY = "; TaskMasks(..., isolation='none') can"

ONE_TASK = {
    "CWRStarPlugin": "gathers the classes of all tasks in one head",
    "GSS_greedyPlugin": "replays samples without their task labels",
    "GenerativeReplayPlugin": "gives generated samples the label of the task in training",
    "EWCPlugin(mode='online')": "pairs importances by position, and each task has more parameters",
}
"""Those that take all data for one task's, and how."""

BY_PLACE = ("EWCPlugin", "MASPlugin", "SynapticIntelligencePlugin")
"""Those that hold a parameter to what was in its place when an earlier task ended."""

NEVER = {
    "AR1": "brings a network of its own",
    "BiCPlugin": "corrects the logits of one head for all classes",
    "CoPEPlugin": "compares features with prototypes and has no use for a head for each task",
    "FeatureDistillationPlugin": "needs the features beside the logits",
    "FeatureReplay": "needs a feature extractor and a classifier of its own",
    "FromScratchTrainingPlugin": "re-initialises all weights before each task, but no topology",
    "ICaRL": "brings a network of its own, which classifies by the nearest mean",
    "LFLPlugin": "needs the features beside the logits",
    "LaMAML": "changes weights without a step of the optimizer, on which topologies move",
    "LearningToPrompt": "brings a network of its own",
    "MER": "loads parameters alone, without the topology that they belong to",
    "RARPlugin": "traces the network symbolically, and so its choice of tasks",
    "RWalkPlugin": "expects all parameters before the first task",
    "StreamingLDA": "has no optimizer, on whose steps topologies move",
}
"""Those that cannot train a network with masks and a head for each task, and why."""


class MaskIsolation(avalanche.core.SupervisedPlugin):  # type: ignore[name-defined, misc]
    """Moves the topology of `TaskMasks` on the strategy's optimizer and ends tasks.

    Add one to the plugins of a strategy whose model is `TaskMasks`:

        strategy = Naive(model=TaskMasks(model, config), ..., plugins=[MaskIsolation()])

    Ahead of other plugins it is the first to say which of them cannot go with tasks.
    """

    supports_distributed = False

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Check that there are tasks to tell apart.

        Raises:
            TypeError: If the strategy's model is not `TaskMasks`.
            ValueError: If the strategy, or one of its plugins, cannot go with it; see `NEVER`,
                `NOT_UNDER_ISOLATION` and `BY_PLACE`.
        """
        model = strategy.model
        names = _names(strategy)
        _refuse(names, NEVER, "MaskIsolation")
        if not isinstance(model, TaskMasks):
            raise TypeError(
                f"MaskIsolation needs a TaskMasks model, not {type(model).__name__}: "
                "pass model=TaskMasks(model, config) to the strategy"
            )
        if names.count("MaskIsolation") > 1:
            raise InputError("MaskIsolation is among the strategy's plugins twice: give it one")
        if model.hard:
            _refuse(names, NOT_UNDER_ISOLATION, "MaskIsolation", HARD_REMEDY)
        elif model.engine.updater is not None and any(
            isinstance(tensor, CondensedTensor) for tensor in model.engine.tensors
        ):
            why = "holds parameters to what was in their places, and condensed weights change them"
            remedy = "; backend='masked' can"
            _refuse(names, dict.fromkeys(BY_PLACE, why), "condensed layers", remedy)

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """End a task whose online stream did not mark its last experience.

        Avalanche 0.6 does not where experiences are of equal size.

        Raises:
            ValueError: If there are several tasks now, and the strategy takes them for one.
        """
        experience = strategy.experience
        labelled = getattr(experience, "task_labels", [experience.current_experience])
        if len({*strategy.model.labels, *labelled}) > 1:
            _refuse(_names(strategy), ONE_TASK, "several tasks")
        first = getattr(experience, "is_first_subexp", False)
        if first and strategy.model.label is not None:
            strategy.model.end()

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Attach to the optimizer; the model began the task when it was adapted.

        In an online stream the length of a task is unknown. Where it is known and too short for an
        update of the topology, there is a warning.
        """
        experience = strategy.experience
        if _at_boundary(experience, "is_first_subexp"):
            online = hasattr(experience, "is_first_subexp")
            steps = None if online else strategy.train_epochs * len(strategy.dataloader)
            strategy.model.attach(strategy.optimizer, steps)
            if steps is not None:
                _warn_of_rest(strategy.model.engine.config, steps)

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


def _names(strategy: Any) -> list[str]:
    """List what a strategy and its plugins are, by the names of their classes."""
    parts = [strategy, *strategy.plugins]
    names = [kind.__name__ for part in parts for kind in type(part).__mro__]
    online = any(getattr(part, "mode", None) == "online" for part in parts)
    return [*names, "EWCPlugin(mode='online')"] if online else names


def _warn_of_rest(config: SparseConfig, steps: int) -> None:
    schedule = Schedule.of(config)
    if METHODS[config.method].updater is None:
        return
    if not any(schedule.due(step, steps) for step in range(1, steps + 1)):
        warnings.warn(
            f"update_every={config.update_every}: no update of the topology falls into the {steps} "
            "optimizer steps of this task, so it is static; update more often, or train for longer",
            stacklevel=2,
        )


def refuse_company(plugins: Sequence[Any]) -> None:
    """Refuse plugins that cannot go with isolated tasks, before one of them is asked anything.

    Raises:
        ValueError: Naming the plugin, and why.
    """
    names = [kind.__name__ for plugin in plugins for kind in type(plugin).__mro__]
    _refuse(names, NEVER, "MaskIsolation")
    _refuse(names, NOT_UNDER_ISOLATION, "MaskIsolation", HARD_REMEDY)


def _refuse(names: list[str], refused: Mapping[str, str], with_: str, remedy: str = "") -> None:
    for name in names:
        if name in refused:
            raise InputError(f"{name} cannot go with {with_}: it {refused[name]}{remedy}")
