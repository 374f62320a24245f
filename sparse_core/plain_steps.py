"""Optimizer steps that an engine need not see: no update follows, and no gradient is watched.

Most steps are such. Whoever makes them without the optimizer, and so without its hooks, asks
`PlainSteps` before each one, and leaves others to the optimizer: all others, or those before which
an engine would have to see more than one backward pass, if it can tell the engine of that one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from sparse_core.engine import Engine
from sparse_core.in_force import KEPT_STATES
from sparse_core.layers.copies import release
from sparse_core.updaters.base import Updater
from sparse_core.weights.fresh import leaves_zeros


class PlainSteps:
    """The plain steps of one engine.

    Args:
        engine: Attached to its optimizer.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._hooks = _hooks_of(engine)

    def refusal(self) -> str | None:
        """Return why no step is plain, or None if some are."""
        engine = self.engine
        optimizer, config = engine.optimizer, engine.config
        if optimizer is None or engine.retired:
            return "an engine is detached"
        if len(engine.trainers) > 1:
            return "two optimizers train one layer"
        if engine.many_tasks:
            return "there are several tasks"
        if distributed.is_available() and distributed.is_initialized():
            return "several processes train together"
        if engine.updater is not None:
            if config.facts.every_step or engine._gradients.needs == "momentum":
                return f"method {config.method!r} looks at every step"
            if type(engine.updater).before_step is not Updater.before_step:
                return f"method {config.method!r} changes gradients"
        if any(tensor.latent for tensor in engine.tensors):
            return f"method {config.method!r} keeps the values of inactive weights"
        if config.optimizer_state in KEPT_STATES:
            return f"optimizer_state {config.optimizer_state!r} looks at every step"
        if not leaves_zeros(optimizer):
            return f"{type(optimizer).__name__} moves weights without a gradient"
        return _other_hooks(optimizer)

    def holds(self) -> bool:
        """Whether optimizers and their hooks are as they were."""
        return _hooks_of(self.engine) == self._hooks

    def is_watched(self) -> bool:
        """Whether modules have hooks now by which neurons are watched."""
        activity = self.engine.neurons.activity
        return activity is not None and activity.on

    def next_is_plain(self) -> bool:
        """Whether the coming step moves weights and nothing else."""
        return self._is_plain(0)

    def next_moves(self) -> bool:
        """Whether the topology moves after the coming step, by its gradients alone."""
        engine = self.engine
        if engine.updater is None or engine.neurons.due(engine.steps + 1) or self.is_watched():
            return False
        source = engine._gradients
        known = source.needs == "nothing" or (source.needs == "gradient" and source.steps == 1)
        if not known or engine.config.skip_step:
            return False
        return engine._schedule.due(engine.phase + 1, engine.horizon)

    def coming(self, most: int) -> int:
        """Return how many steps may be made before anybody has to look, at most `most`.

        Observers of single steps see each of them.
        """
        limit = min(most, 1) if self.engine.on_step else most
        return next((i for i in range(limit) if not self._is_plain(i)), limit)

    def _is_plain(self, ahead: int) -> bool:
        engine = self.engine
        if engine.neurons.due(engine.steps + ahead + 1):
            return False
        if engine.updater is None:
            return True
        schedule, phase, horizon = engine._schedule, engine.phase + ahead, engine.horizon
        if schedule.due(phase + 1, horizon):
            return False
        return not engine._gradients._wanted(phase, schedule, horizon)

    def before(self) -> None:
        """Do what precedes a plain step.

        Raises:
            RuntimeError: If the method needs a horizon and has none.
        """
        engine = self.engine
        if engine.updater is not None:
            engine.updater.check_step(engine.horizon, closure=False)
        for tensor in engine.tensors:
            release(tensor.layer)
        engine._followers.catch_up()

    def before_move(self, product: Callable[[nn.Module], tuple[Tensor, Tensor]]) -> None:
        """Do what precedes an optimizer step after which the topology moves.

        Args:
            product: Returns the input `(batch, in)` of a layer in the backward pass of this step,
                and the gradient `(batch, out)` of its output. Where `.grad` is set it is scaled as
                it was scaled since.

        Raises:
            FloatingPointError: If a weight or a gradient is NaN or infinite.
        """
        engine = self.engine
        for tensor in engine.tensors:
            if tensor.tap.armed:
                tensor.tap.take(*product(tensor.layer))
        assert engine.optimizer is not None
        engine._before_step(engine.optimizer, (), {})

    def after_move(self) -> None:
        """Count the step, and move the topology."""
        assert self.engine.optimizer is not None
        self.engine._after_step(self.engine.optimizer, (), {})

    def after(self, steps: int = 1) -> None:
        """Count plain steps."""
        engine = self.engine
        engine._clock["steps"] = engine.steps + steps
        for observe in engine.on_step:
            observe(engine.steps)
        if engine.updater is not None or engine.neurons.every is not None:
            engine._arm()


def _hooks_of(engine: Engine) -> list[Any]:
    """Return an engine's optimizers, the names of the hooks on them, and its number of resets."""
    optimizers = engine.trainers
    return [
        engine.neurons.resets,
        *optimizers,
        *(tuple(one._optimizer_step_pre_hooks) for one in optimizers),
        *(tuple(one._optimizer_step_post_hooks) for one in optimizers),
    ]


def _other_hooks(optimizer: Optimizer) -> str | None:
    """Say whether somebody else has hooks on an optimizer's steps."""
    before, after = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
    owners = [getattr(hook, "__self__", None) for hook in [*before.values(), *after.values()]]
    if not all(isinstance(owner, Engine) for owner in owners):
        return f"{type(optimizer).__name__} has hooks"
    return None
