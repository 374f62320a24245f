"""Learn a sequence of tasks with one policy, and measure what is kept and what is gained.

At a switch all that belongs to the task before is reset: the optimizers' state, the rollout or
replay buffer, SAC's entropy coefficient (if it is learnt) to its initial value; schedules of
learning rates and of exploration begin again, as each task is a call of `learn` of its own. What
stays is the trunk, as `dstrl.tasks.mixin` says.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv

from dstrl.policies.names import policies
from dstrl.runs.build import ALGORITHMS, build, replay_callback, vectorised
from dstrl.runs.evaluate import Evaluator
from dstrl.runs.saved import save
from dstrl.runs.train import PROGRESS_EVERY, Progress
from dstrl.seeds import derive
from dstrl.tasks.metrics import forgetting, performance, transfers
from dstrl.tasks.mixin import ContinualPolicy
from dstrl.tasks.names import continual_policies
from dstrl.tasks.spec import CRLSpec
from dstrl.watching.callbacks import SparseCallback
from dstrl.watching.lines import lines
from dstrl.watching.plasticity import Plasticity
from sparse_core.ahead import import_ahead
from sparse_core.checks import InputError, within
from sparse_core.metrics.tally import UpdateTally, weights

Curve = list[tuple[int, float]]


def begin_task(model: BaseAlgorithm, label: int, env: GymEnv | None = None) -> None:
    """Let an algorithm go on with the next task, and reset what belonged to the one before.

    Args:
        model: An algorithm with a `ContinualPolicy`; the task in training ends.
        label: The next task.
        env: Its environment or environments, with the same spaces; None: they stay.

    Raises:
        InputError: If the policy cannot learn this task, or the environment is none, or there are
            others at once than before.
        ValueError: If the spaces differ. Whatever is refused, nothing is changed: the task in
            training goes on.
    """
    policy = _policy(model)
    label = policy.check_task(label)
    if env is not None:
        _set_env(model, env)
    if policy.training_task is not None:
        policy.end_task()
    policy.begin_task(label)
    for name in ("rollout_buffer", "replay_buffer"):
        buffer = getattr(model, name, None)
        if buffer is not None:
            buffer.reset()
    _reset_entropy(model)


def _set_env(model: BaseAlgorithm, env: GymEnv) -> None:
    if not isinstance(env, (gym.Env, VecEnv)):
        raise InputError(f"env={env!r}: must be an environment of Gymnasium", field="env")
    number = env.num_envs if isinstance(env, VecEnv) else 1
    if number != model.n_envs:
        raise InputError(
            f"env: has {number} environments, the algorithm was made with {model.n_envs}",
            field="env",
        )
    model.set_env(env)


def _policy(model: BaseAlgorithm) -> ContinualPolicy:
    if not isinstance(model.policy, ContinualPolicy):
        kind = type(model.policy).__name__
        raise InputError(
            f"policy={kind}: tasks in sequence need one of dstrl.tasks.policies", field="policy"
        )
    return model.policy


def _reset_entropy(model: Any) -> None:
    optimizer = getattr(model, "ent_coef_optimizer", None)
    if optimizer is None:
        return
    initial = float(str(model.ent_coef).partition("_")[2] or 1.0)
    with torch.no_grad():
        model.log_ent_coef.fill_(math.log(initial))
    optimizer.state.clear()


def ahead() -> None:
    """Import what runs import as they go, for a process that forks them."""
    policies()
    import_ahead()


def run(spec: CRLSpec, out: Path, progress: Progress) -> dict[str, Any]:
    """Learn the tasks one after the other, in one thread, and measure what is left of each.

    Args:
        spec: The run.
        out: A folder; the model with all its tasks goes there.
        progress: Told the fraction that is done and the numbers so far, at least once a second of
            work.

    Returns:
        `score` (mean performance on all tasks after the last), `curve` (environment steps in all,
        mean performance on all tasks, 0 on those that have not begun), `matrix` (row i: performance
        on tasks 0 to i after task i), `forgetting`, `curves` (of each task while it was learnt:
        steps of that task, performance), `sparsity` and `layers` of one task's network,
        `capacity`, `hyper`, `updates` and `still` (see `sparse_core.metrics.tally`); under hard
        isolation `capacity_used`; with `plasticity` the curves of `dstrl.watching.plasticity`, over
        environment steps in all; with baselines `baselines` (their curves), `transfers` and
        `forward_transfer`, their mean.

    Raises:
        ValueError: If the tasks do not suit the algorithm or each other, or do not fit into the
            network, in one line.
    """
    torch.set_num_threads(1)
    course = _Course(spec.resolve(), progress)
    model = course.build()
    course.check(model)
    policy = _policy(model)
    moves = UpdateTally(policy.sparse_engines)
    for label in range(len(course.tasks)):
        with lines(model, out / f"task_{label}"):
            course.learn(model, label)
        moves.end(label)
    result: dict[str, Any] = {
        "score": performance(course.matrix),
        "curve": course.curve,
        "matrix": course.matrix,
        "forgetting": forgetting(course.matrix),
        "curves": course.curves,
        **weights(policy.sparse_engines),
        "capacity": policy.capacity(),
        **moves.result(),
        "hyper": dict(course.run.hyper),
    }
    if policy.hard:
        result["capacity_used"] = policy.capacity_used()
    if course.plasticity is not None:
        result["plasticity"] = course.plasticity.curves
    save(model, out)
    if spec.baselines:
        others = range(1, len(course.tasks))
        result["baselines"] = [course.curves[0], *(course.learn_alone(label) for label in others)]
        result["transfers"] = transfers(course.curves, result["baselines"])
        result["forward_transfer"] = float(np.mean(result["transfers"]))
    course.close()
    return result


def make_model(spec: CRLSpec) -> BaseAlgorithm:
    """Make the algorithm of a resolved spec, which has learnt nothing yet."""
    return build(
        spec.run,
        make=spec.tasks[0].make,
        policy=continual_policies()[ALGORITHMS[spec.algo]],
        isolation=spec.isolation_in_force,
        share=spec.share if spec.isolation_in_force == "hard" else "none",
    )


class _Course:
    """The tasks of a run, and what was measured of them so far.

    Attributes:
        matrix: Row i: performance on tasks 0 to i after task i.
        curves: Of each task, while it was learnt.
        curve: Environment steps in all, mean performance on all tasks.
    """

    def __init__(self, spec: CRLSpec, progress: Progress) -> None:
        self.spec = spec
        self.run = spec.run
        self.tasks = spec.tasks
        self.progress = progress
        self.matrix: list[list[float]] = []
        self.curves: list[Curve] = []
        self.curve: Curve = []
        self.learnt = 0
        self.plasticity = Plasticity(spec.eval_every or 1) if spec.plasticity else None
        self.evaluators = [
            Evaluator(task.make, spec.eval_episodes, derive(spec.seed, "task", label))
            for label, task in enumerate(self.tasks)
        ]

    def build(self) -> BaseAlgorithm:
        """Make an algorithm that has learnt nothing yet."""
        return make_model(self.spec)

    def check(self, model: BaseAlgorithm) -> None:
        """Raise a ValueError if the tasks do not suit each other, or do not fit."""
        name, spaces = self.spec.sequence, (model.observation_space, model.action_space)
        for label, evaluator in enumerate(self.evaluators):
            if (evaluator.envs.observation_space, evaluator.envs.action_space) != spaces:
                raise InputError(
                    f"sequence={name!r}: task {label} has other observations or actions than "
                    "task 0",
                    field="sequence",
                )
        room = _policy(model).room()
        if room is not None and room < len(self.tasks):
            raise InputError(
                f"sequence={name!r}: of its {len(self.tasks)} tasks only {room} have room beside "
                "each other; raise the sparsity, widen net_arch, or set share='reuse'",
                field="sequence",
            )

    def learn(self, model: BaseAlgorithm, label: int) -> None:
        """Learn the next task of the sequence."""
        steps = self.curve[-1][0] if self.curve else 0

        def look(index: int, done: int) -> float:
            latest = self.look(model, label, index)
            if done or not self.curve:
                before = self._earlier(model, label, index)
                self.curve.append((steps + done, (sum(before) + latest) / len(self.tasks)))
            return latest

        curve = self._learn(model, label, look)
        row = [self.look(model, seen) for seen in range(label + 1)]
        curve.append((model.num_timesteps, row[-1]))
        self.curve.append((steps + model.num_timesteps, sum(row) / len(self.tasks)))
        self.curves.append(curve)
        self.matrix.append(row)

    def learn_alone(self, label: int) -> Curve:
        """Let a network of its own learn one task."""
        model = self.build()
        curve = self._learn(model, label, lambda index, done: self.look(model, label, index))
        curve.append((model.num_timesteps, self.look(model, label)))
        return curve

    def look(self, model: BaseAlgorithm, label: int, index: int = 0) -> float:
        """Return the performance on one task, on the episodes of evaluation number `index`."""
        with _policy(model).task(label):
            returns = self.evaluators[label](model, index)
        value = self.tasks[label].performance(float(np.mean(returns)))
        within(f"performance of task {label}", value, 0, 1)
        return value

    def close(self) -> None:
        """Close the environments."""
        for evaluator in self.evaluators:
            evaluator.close()

    def _earlier(self, model: BaseAlgorithm, label: int, index: int) -> list[float]:
        """Return the performance on the tasks before; isolated ones are as they were."""
        if self.matrix and _policy(model).hard:
            return self.matrix[-1]
        return [self.look(model, seen, index) for seen in range(label)]

    def _learn(self, model: BaseAlgorithm, label: int, look: Callable[[int, int], float]) -> Curve:
        """Learn a task from its beginning to its end; return its curve without the end."""
        run = self.run
        envs = vectorised(self.tasks[label].make, run.n_envs or 1)
        envs.seed(derive(run.seed, "training", label))
        before = model.get_env()
        begin_task(model, label, envs)
        if before is not None:
            before.close()
        watch = _Watch(look, run.steps or 1, run.eval_every or 1, self._tell)
        alone = len(self.curves) == len(self.tasks)
        measures = None if alone else self.plasticity
        callbacks = [SparseCallback(), watch, replay_callback(run.hyper), measures]
        model.learn(
            run.steps or 1,
            callback=[callback for callback in callbacks if callback is not None],
        )
        _policy(model).end_task()
        self.learnt += 1
        return watch.curve

    def _tell(self, part: float, value: float) -> None:
        trained = 2 * len(self.tasks) - 1 if self.spec.baselines else len(self.tasks)
        numbers = {"steps": (self.learnt + part) * self.spec.steps, "performance": value}
        self.progress((self.learnt + part) / trained, numbers)


class _Watch(BaseCallback):
    """Evaluates at the beginning of a task and at regular steps, and says how far it is."""

    def __init__(
        self,
        evaluate: Callable[[int, int], float],
        steps: int,
        every: int,
        tell: Callable[[float, float], None],
    ) -> None:
        super().__init__()
        self.evaluate = evaluate
        self.steps = steps
        self.every = every
        self.tell = tell
        self.curve: Curve = []
        self._told = -math.inf

    def _on_training_start(self) -> None:
        self._look()

    def _on_step(self) -> bool:
        if len(self.curve) * self.every <= self.num_timesteps < self.steps:
            self._look()
        elif time.monotonic() - self._told >= PROGRESS_EVERY:
            self._report()
        return True

    def _on_training_end(self) -> None:
        self._report()

    def _look(self) -> None:
        value = self.evaluate(len(self.curve), self.num_timesteps)
        self.curve.append((self.num_timesteps, value))
        self.logger.record("eval/performance", value)
        self._report()

    def _report(self) -> None:
        self.tell(min(1.0, self.num_timesteps / self.steps), self.curve[-1][1])
        self._told = time.monotonic()
