"""`MaskIsolation`: tells a `TaskMasks` model where tasks begin and end in an Avalanche strategy."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from continual.avalanche_compat import avalanche
from continual.strategies.evaluating import Evaluating
from continual.tasks.experiences import begins, ends, is_online, labels_of, tasks_in_stream
from continual.tasks.masks import TaskMasks
from sparse_core.checks import InputError
from sparse_core.config import SparseConfig
from sparse_core.schedule import Schedule
from sparse_core.weights.condensed import CondensedTensor

NOT_UNDER_ISOLATION = {
    "GDumbPlugin": "trains a new network on its memory of all tasks",
    "JointTraining": "trains all tasks at once",
    "CWRStarPlugin": "writes into the head of a task that has ended",
}
"""Avalanche's strategies and plugins that would change what earlier tasks have learnt, and why."""

HARD_REMEDY = "; TaskMasks(..., isolation='none') can"

ONE_TASK_ONLY = {
    "CWRStarPlugin": "gathers the classes of all tasks in one head",
    "GSS_greedyPlugin": "replays samples without their task labels",
    "GenerativeReplayPlugin": "gives generated samples the label of the task in training",
    "EWCPlugin(mode='online')": "pairs importances by position, and each task has more parameters",
}
"""Those that take all data for one task's, and how."""

TIED_TO_PLACES = ("EWCPlugin", "MASPlugin", "SynapticIntelligencePlugin")
"""Those that pull a parameter towards what stood in its place when an earlier task ended."""

NEED_EVERY_GRADIENT = {"MIRPlugin"}
"""Those that differentiate with respect to every parameter, frozen ones included."""

INCOMPATIBLE = {
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


class MaskIsolation(Evaluating):
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
            ValueError: If the strategy, or one of its plugins, cannot go with it; see
                `INCOMPATIBLE`, `NOT_UNDER_ISOLATION` and `TIED_TO_PLACES`.
        """
        model = strategy.model
        names = _names(strategy)
        _check_none_of(names, INCOMPATIBLE, "MaskIsolation")
        strategy.plugins = list(_thawing(strategy.plugins))
        if not isinstance(model, TaskMasks):
            raise TypeError(
                f"MaskIsolation needs a TaskMasks model, not {type(model).__name__}: "
                "pass model=TaskMasks(model, config) to the strategy"
            )
        if names.count("MaskIsolation") > 1:
            raise InputError("MaskIsolation is among the strategy's plugins twice: give it one")
        if model.hard:
            _check_none_of(names, NOT_UNDER_ISOLATION, "MaskIsolation", HARD_REMEDY)
        elif model.engine.updater is not None and any(
            isinstance(tensor, CondensedTensor) for tensor in model.engine.tensors
        ):
            why = "holds parameters to what was in their places, and condensed weights change them"
            remedy = "; backend='masked' can"
            _check_none_of(names, dict.fromkeys(TIED_TO_PLACES, why), "condensed layers", remedy)

    def before_train_dataset_adaptation(self, strategy: Any, **kwargs: Any) -> None:
        """End a task whose online stream did not mark its last experience; expect the next.

        Avalanche 0.6 does not where experiences are of equal size. The optimizer gets the tensors
        of the new task when it begins, before Avalanche looks for groups that they could be in.
        Where not all tasks of the stream fit, there is a warning before the first.

        Raises:
            ValueError: If there are several tasks now, and the strategy takes them for one; or the
                next task cannot be trained.
        """
        model, experience = strategy.model, strategy.experience
        labels = model.check(labels_of(experience))
        if len({*model.labels, *labels}) > 1:
            _check_none_of(_names(strategy), ONE_TASK_ONLY, "several tasks")
        if model.hard and not model.labels:
            _warn_of_room(model, experience)
        if model.label is not None and begins(experience, model.label):
            model.end()
        model.expect(strategy.optimizer)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Attach to the optimizer; the model began the task when it was adapted.

        In an online stream the length of a task is unknown. Where it is known and too short for an
        update of the topology, there is a warning.
        """
        model, experience = strategy.model, strategy.experience
        if not is_online(experience):
            steps = strategy.train_epochs * len(strategy.dataloader)
            model.attach(strategy.optimizer, steps)
            _warn_of_rest(model.engine.config, steps)
        elif model.engine.optimizer is not strategy.optimizer:
            model.attach(strategy.optimizer)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """End the task, unless more may come; what is left unpruned is pruned, with a warning."""
        if ends(strategy.experience):
            if strategy.clock.train_exp_iterations:
                _prune(strategy.model)
            strategy.model.end()


class _Thaw(avalanche.core.SupervisedPlugin):  # type: ignore[name-defined, misc]
    """Lets the plugin behind it differentiate with respect to every parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen: list[nn.Parameter] = []

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Thaw what is frozen."""
        self.frozen = [p for p in strategy.model.parameters() if not p.requires_grad]
        for parameter in self.frozen:
            parameter.requires_grad_(True)


class _Freeze(avalanche.core.SupervisedPlugin):  # type: ignore[name-defined, misc]
    """Freezes again what was frozen."""

    def __init__(self, thaw: _Thaw) -> None:
        super().__init__()
        self.thaw = thaw

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Freeze it, before others take it for what trains, as Synaptic Intelligence does."""
        for parameter in self.thaw.frozen:
            parameter.requires_grad_(False)
        self.thaw.frozen = []


def _thawing(plugins: Sequence[Any]) -> Iterator[Any]:
    """Yield plugins, each that needs it between one that thaws and one that freezes."""
    before: Any = None
    for plugin in plugins:
        if not isinstance(before, _Thaw) and not NEED_EVERY_GRADIENT.isdisjoint(_kinds(plugin)):
            thaw = _Thaw()
            yield from (thaw, plugin, _Freeze(thaw))
        else:
            yield plugin
        before = plugin


def _names(strategy: Any) -> list[str]:
    """List what a strategy and its plugins are, by the names of their classes."""
    parts = [strategy, *strategy.plugins]
    names = [name for part in parts for name in _kinds(part)]
    online = any(getattr(part, "mode", None) == "online" for part in parts)
    return [*names, "EWCPlugin(mode='online')"] if online else names


def _kinds(part: Any) -> list[str]:
    """List what a strategy or plugin is, by the names of its classes."""
    return [kind.__name__ for kind in type(part).__mro__]


def _prune(model: TaskMasks) -> None:
    if model.hard and model.prune():
        config = model.engine.config
        warnings.warn(
            f"task {model.label}: training ended, or went back to a state, before method "
            f"{config.method!r} had pruned it; it was pruned at its end and not trained after that",
            stacklevel=2,
        )


def _warn_of_room(model: TaskMasks, experience: Any) -> None:
    """Say before the first task is trained that others will not fit beside it."""
    try:
        model.plan.check(tasks_in_stream(experience))
    except InputError as error:
        warnings.warn(f"the stream has more tasks than fit: {error}", stacklevel=2)


def _warn_of_rest(config: SparseConfig, steps: int) -> None:
    schedule = Schedule.of(config)
    if config.facts.updater is None:
        return
    if not any(schedule.due(step, steps) for step in range(1, steps + 1)):
        warnings.warn(
            f"update_every={config.update_every}: no update of the topology falls into the {steps} "
            "optimizer steps of this task, so it is static; update more often, or train for longer",
            stacklevel=2,
        )


def check_plugins(plugins: Sequence[Any]) -> None:
    """Refuse plugins that cannot go with isolated tasks, before one of them is asked anything.

    Raises:
        ValueError: Naming the plugin, and why.
    """
    names = [kind.__name__ for plugin in plugins for kind in type(plugin).__mro__]
    _check_none_of(names, INCOMPATIBLE, "MaskIsolation")
    _check_none_of(names, NOT_UNDER_ISOLATION, "MaskIsolation", HARD_REMEDY)


def _check_none_of(
    names: list[str], refused: Mapping[str, str], with_: str, remedy: str = ""
) -> None:
    for name in names:
        if name in refused:
            raise InputError(f"{name} cannot go with {with_}: it {refused[name]}{remedy}")
