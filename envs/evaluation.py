"""How well a policy does in each task of a sequence, and in all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from envs.tasks import TaskSequence
from sparse_core.checks import whole

Policy = Callable[[NDArray[Any]], Any]
"""Observation -> action."""


@dataclass(frozen=True)
class Evaluation:
    """Returns of a policy.

    Attributes:
        returns: For each task evaluated, by its number, the return of each episode.
    """

    returns: dict[int, tuple[float, ...]]

    def single(self, task: int) -> float:
        """Return the mean return in one task."""
        episodes = self.returns[task]
        return sum(episodes) / len(episodes)

    @property
    def multi(self) -> float:
        """The mean over tasks of the mean return in each."""
        return sum(map(self.single, self.returns)) / len(self.returns)


def evaluate(
    policy: Policy,
    sequence: TaskSequence,
    episodes: int = 10,
    seed: int = 0,
    tasks: Sequence[int] | None = None,
) -> Evaluation:
    """Let a policy act in the tasks of a sequence, each by itself; the sequence stays as it is.

    Args:
        policy: Observation -> action; of a model of Stable-Baselines3
            `lambda observed: model.predict(observed, deterministic=True)[0]`.
        sequence: Whose tasks.
        episodes: In each task.
        seed: Of the first episode in each task.
        tasks: Numbers of those to evaluate in; None: all.

    Raises:
        InputError: If there is no such task, or less than one episode is asked for.
    """
    whole("episodes", episodes, 1)
    chosen = range(len(sequence)) if tasks is None else tasks
    returns = {}
    for task in chosen:
        env = sequence.single(task)
        earned = [_episode(policy, env, None if i else seed) for i in range(episodes)]
        returns[int(task)] = tuple(earned)
        env.close()
    return Evaluation(returns)


def _episode(policy: Policy, env: TaskSequence, seed: int | None) -> float:
    observation, _ = env.reset(seed=seed)
    earned, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        earned += float(reward)
        over = terminated or truncated
    return earned
