"""Several environments as one: a task for so many steps, or for an episode, and then another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.drift import told_below
from envs.fitting import CommonSpaces
from envs.making import EnvBuilder
from envs.sequences import sequence
from envs.spaces import box
from sparse_core.checks import InputError, one_of, whole

OURS = ("clock", "task")
"""Options of `reset` that are not for the environment of the task."""


class TaskSequence(gym.Env[Any, Any]):
    """Environments one after the other, under one observation and one action space.

    The task changes at resets only. It follows from the seed and from the steps taken (or the
    episodes begun) since, and stands in `info["regime"]["TaskSequence"]`. A seed is that of each
    task's environment, too: a sequence of one task is that environment.

    `reset(options={"task": i})` gives an episode of task i, `set_task(i)` all episodes from then
    on, until `set_task(None)`; `reset(options={"clock": n})` and `set_clock(n)` go to the time
    after n steps.

    Args:
        tasks: The name of a sequence (`envs.sequences`), or a list, of which each item is a
            Gymnasium id or `package.module:NAME`; a mapping with `env`, `env_kwargs`, `wrappers`
            and `wrapper_kwargs`; or a task (`envs.sequences.Task`).
        every: Steps that a task takes; None: an episode.
        repeat: After the last task comes the first again; otherwise the last one stays.
        shuffled: Tasks are drawn at random, each as likely as any.
        tell_task: Append the task to the observation, 1 in its place and 0 in the others'.
        render_mode: As in Gymnasium.

    Attributes:
        task: Number of the present task.
        clock: Steps taken since the seed, or since this was made.

    Raises:
        InputError: If a task cannot be made, or the spaces cannot be reconciled.
    """

    def __init__(
        self,
        tasks: str | Sequence[Any],
        every: int | None = None,
        repeat: bool = True,
        shuffled: bool = False,
        tell_task: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self._given = tasks
        self.every = None if every is None else whole("every", every, 1)
        for name, flag in (("repeat", repeat), ("shuffled", shuffled), ("tell_task", tell_task)):
            one_of(name, flag, (False, True))
        self.repeat, self.shuffled, self.tell_task = repeat, shuffled, tell_task
        self.render_mode = render_mode
        bare = [make(render_mode) for make in makers(tasks)]
        self._common = CommonSpaces.of(bare)
        self._envs = [self._common.fit(env) for env in bare]
        self.metadata = bare[0].metadata
        self.action_space = self._common.acted
        told = len(bare) if tell_task else 0
        space = self._common.observed
        self.observation_space = space if not told else _longer(space, told)
        self.task = 0
        self.clock = 0
        self._episodes = 0
        self._pinned: int | None = None
        self._seeds: dict[int, int] = {}
        self._drawn: list[int] = []

    def __len__(self) -> int:
        return len(self._envs)

    def set_task(self, task: int | None) -> None:
        """Stay with a task from the next reset on; None: with none."""
        self._pinned = None if task is None else self._known("task", task)

    def set_clock(self, clock: int) -> None:
        """Go to the time after so many steps, from the next reset on."""
        self.clock = whole("clock", clock, 0)

    def join_world(self, world: int) -> None:
        """Let tasks that drift live in a world, unless they were given one."""
        for env in self._envs:
            if env.has_wrapper_attr("join_world"):
                env.get_wrapper_attr("join_world")(world)

    def jumping(self) -> frozenset[tuple[str, ...]]:
        """Return where in `info["regime"]` stands what changes at a stroke (`envs.drift`)."""
        drifting = [env for env in self._envs if env.has_wrapper_attr("jumping")]
        inner = [env.get_wrapper_attr("jumping")() for env in drifting]
        return frozenset({("TaskSequence",)}.union(*inner))

    def spread(self, episodes: int) -> list[int] | None:
        """Return tasks for so many episodes that are evaluated side by side.

        They are in turn where each episode has another task, and None where the clock decides.
        """
        return [i % len(self) for i in range(episodes)] if self.every is None else None

    def single(self, task: int, render_mode: str | None = None) -> TaskSequence:
        """Make an environment of one task for ever, with the spaces of the sequence."""
        known = self._known("task", task)
        alone = TaskSequence(self._given, tell_task=self.tell_task, render_mode=render_mode)
        alone.set_task(known)
        return alone

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin an episode of the task whose turn it is."""
        super().reset(seed=seed)
        if seed is not None:
            self.clock = self._episodes = 0
            self._seeds = dict.fromkeys(range(len(self)), seed)
            self._drawn = []
        given = options or {}
        if "clock" in given:
            self.clock = whole("options.clock", given["clock"], 0)
        self.task = self._due() if self._pinned is None else self._pinned
        if "task" in given:
            self.task = self._known("options.task", given["task"])
        self._episodes += 1
        others = {name: value for name, value in given.items() if name not in OURS}
        observation, info = self._envs[self.task].reset(
            seed=self._seeds.pop(self.task, None), options=others or None
        )
        return self._observed(observation), self._told(info)

    def step(self, action: Any) -> tuple[NDArray[Any], Any, bool, bool, dict[str, Any]]:
        """Take a step in the present task."""
        observation, reward, terminated, truncated, info = self._envs[self.task].step(action)
        self.clock += 1
        return self._observed(observation), reward, terminated, truncated, self._told(info)

    def render(self) -> Any:
        """Render the present task."""
        return self._envs[self.task].render()

    def close(self) -> None:
        """Close the environments of all tasks."""
        for env in self._envs:
            env.close()

    def _due(self) -> int:
        """Return the task whose turn it is."""
        turn = self._episodes if self.every is None else self.clock // self.every
        if self.shuffled:
            while len(self._drawn) <= turn:
                self._drawn.append(int(self.np_random.integers(len(self))))
            return self._drawn[turn]
        return turn % len(self) if self.repeat else min(turn, len(self) - 1)

    def _known(self, field: str, task: int) -> int:
        number = whole(field, task, 0)
        if number >= len(self):
            raise InputError(f"{field}={task!r}: must be 0 to {len(self) - 1}", field=field)
        return number

    def _observed(self, observation: NDArray[Any]) -> NDArray[Any]:
        if not self.tell_task:
            return observation
        told = np.zeros(len(self), dtype=observation.dtype)
        told[self.task] = 1
        return np.concatenate([observation, told])

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        return {**info, "regime": {**told_below(info), "TaskSequence": self.task}}


def _longer(space: spaces.Box, tasks: int) -> spaces.Box:
    """Return the space of observations to which the task is appended."""
    return box(
        np.concatenate([space.low, np.zeros(tasks)]).astype(space.dtype),
        np.concatenate([space.high, np.ones(tasks)]).astype(space.dtype),
        space,
    )


def makers(tasks: str | Sequence[Any]) -> list[Callable[[str | None], gym.Env[Any, Any]]]:
    """Return what makes the environment of each task, given a render mode.

    Raises:
        InputError: If that is no list of tasks, or names something that is not there.
    """
    given = sequence(tasks) if isinstance(tasks, str) else tasks
    if not isinstance(given, Sequence) or not given:
        raise InputError(
            f"tasks={tasks!r}: must be the name of a sequence or a list of tasks", field="tasks"
        )
    return [_maker(f"tasks.{number}", task) for number, task in enumerate(given)]


def _maker(field: str, task: Any) -> Callable[[str | None], gym.Env[Any, Any]]:
    make = getattr(task, "make", None)
    if callable(make) and not isinstance(task, type):
        return lambda mode: make(render_mode=mode)
    if isinstance(task, str):
        task = {"env": task}
    known = [item.name for item in dataclasses.fields(EnvBuilder)]
    if not isinstance(task, Mapping) or "env" not in task or set(task) - set(known):
        raise InputError(
            f"{field}={task!r}: must be an environment's id, a task, or a mapping with env and "
            f"perhaps {', '.join(known[1:])}",
            field=field,
        )
    builder = EnvBuilder(**task)
    try:
        builder.check()
    except InputError as error:
        raise error.below(field) from None
    return builder.make
