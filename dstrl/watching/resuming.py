"""Callbacks that write checkpoints of an algorithm in training, and that go on from one.

A checkpoint is made where a rollout begins: between two of them an algorithm of
Stable-Baselines3 has nothing under way that is not in its attributes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnvWrapper

from sparse_core.checkpoints import Checkpoints
from sparse_core.pickling import by_state, set_streams
from sparse_core.rings import Ring

OUTSIDE = ("progress", "saver")
"""What belongs to the process and not to the training, and is there anew when it goes on."""


class Saver(BaseCallback):
    """Writes a checkpoint when it is time; the last one of a list of callbacks.

    Args:
        checkpoints: Of the run.
        state: What is kept besides the algorithm, by name.
        progress: What the run tells its progress to.
        generation: Changes when the replay buffer begins anew.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        state: Mapping[str, Any],
        progress: Callable[..., Any],
        generation: int = 0,
    ) -> None:
        super().__init__()
        self.checkpoints = checkpoints
        self.state = state
        self.progress = progress
        self.generation = generation

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.checkpoints.due():
            self.save()

    def save(self, ended: bool = False) -> None:
        """Write one now.

        Args:
            ended: Whether training has ended, and no rollout has begun.
        """
        model: Any = self.model
        buffer = getattr(model, "replay_buffer", None)
        given = self.num_timesteps // model.n_envs
        ring = None if buffer is None else Ring(buffer, given, self.generation)
        outside = dict(zip(OUTSIDE, (self.progress, self), strict=True))
        callbacks = list(_all(self.parent or self))
        kept = [(one, one.locals, one.globals) for one in callbacks]
        for one in callbacks:
            one.locals, one.globals = {}, {}
        try:
            state = {"model": model, "ended": ended, **self.state}
            self.checkpoints.save(state, outside=outside, ring=ring, reduce=_reduce)
        finally:
            for one, local, of_module in kept:
                one.locals, one.globals = local, of_module


class Last(BaseCallback):
    """Writes a checkpoint where a training ends that is long enough; the first of its callbacks.

    The others have not heard of the end then, and a training that goes on from there has had none.

    Args:
        saver: Writes it.
    """

    def __init__(self, saver: Saver) -> None:
        super().__init__()
        self.saver = saver

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        if self.num_timesteps >= self.model._total_timesteps:
            self.saver.save(ended=True)


class Resumed(CallbackList):
    """Callbacks of a training that goes on: for them it has begun already.

    Args:
        callbacks: As they were pickled.
        model: The algorithm, as it was pickled.
        streams: The random streams as they were, put back once the rollout begins.
        ended: Whether the training had ended; then they are put back before that.
    """

    def __init__(
        self,
        callbacks: Sequence[BaseCallback],
        model: BaseAlgorithm,
        streams: Mapping[str, Any],
        ended: bool = False,
    ) -> None:
        super().__init__(list(callbacks))
        self._streams: Mapping[str, Any] | None = streams
        self._ended = ended
        self._noise = [(noise, dict(vars(noise))) for noise in _noises(model)]

    def _init_callback(self) -> None:
        for callback in self.callbacks:
            callback.parent = self

    def _on_training_start(self) -> None:
        for callback in self.callbacks:
            callback.locals, callback.globals = self.locals, self.globals
        if self._ended and self._streams is not None:
            set_streams(self._streams)
            self._streams = None

    def _on_rollout_start(self) -> None:
        if self._streams is None:
            super()._on_rollout_start()
            return
        for noise, held in self._noise:
            vars(noise).update(held)
        set_streams(self._streams)
        self._streams = None


def go_on(model: BaseAlgorithm, steps: int, callbacks: Sequence[BaseCallback]) -> None:
    """Let an algorithm that was pickled in training learn on, until it has done so many steps."""
    left = steps - model.num_timesteps
    if getattr(model, "_logger", None) is None:
        model._custom_logger = False
    model.learn(left, callback=list(callbacks), reset_num_timesteps=False)


def _all(callback: BaseCallback) -> Iterator[BaseCallback]:
    """Yield a callback and those below it."""
    yield callback
    for below in getattr(callback, "callbacks", ()):
        yield from _all(below)
    inner = getattr(callback, "callback", None)
    if isinstance(inner, BaseCallback):
        yield from _all(inner)


def _reduce(obj: Any) -> Any:
    """Pickle wrappers of vectorised environments with what they wrap, and no loggers."""
    if isinstance(obj, Logger):
        return type(None), ()
    if not isinstance(obj, VecEnvWrapper):
        return NotImplemented
    kept = {name: value for name, value in vars(obj).items() if name != "class_attributes"}
    return by_state(obj, kept, _wrap)


def _wrap(wrapper: VecEnvWrapper, state: Mapping[str, Any]) -> None:
    vars(wrapper).update(state)
    wrapper.class_attributes = dict(inspect.getmembers(type(wrapper)))


def _noises(model: Any) -> Iterator[StateDependentNoiseDistribution]:
    """Yield what draws noise that depends on the state; it draws anew before a rollout begins."""
    for owner in (model.policy, getattr(model, "actor", None)):
        found = getattr(owner, "action_dist", None)
        if isinstance(found, StateDependentNoiseDistribution):
            yield found
