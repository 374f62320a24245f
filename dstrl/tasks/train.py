"""Learn a sequence of tasks with one policy, and measure what is kept and what is gained.

What is reset between two tasks, and what stays, says `dstrl.tasks.switching`.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from dstrl.policies.names import policies
from dstrl.runs.build import ALGORITHMS, build, replay_callback, vectorised
from dstrl.runs.evaluate import Evaluator
from dstrl.runs.saved import save
from dstrl.runs.train import PROGRESS_EVERY, Progress
from dstrl.seeds import derive
from dstrl.tasks.metrics import forgetting, performance, transfers
from dstrl.tasks.names import continual_policies
from dstrl.tasks.sizes import arch_of
from dstrl.tasks.spec import CRLSpec
from dstrl.tasks.switching import begin_task, policy_of
from dstrl.watching.callbacks import SparseCallback
from dstrl.watching.lines import lines
from dstrl.watching.plasticity import Plasticity
from dstrl.watching.resuming import OUTSIDE, Resumed, Saver, go_on
from sparse_core.ahead import import_ahead
from sparse_core.checkpoints import Checkpoints
from sparse_core.checks import InputError, within
from sparse_core.metrics.tally import UpdateTally, weights

Curve = list[tuple[int, float]]


def ahead() -> None:
    """Import what runs import as they go, for a process that forks them."""
    policies()
    import_ahead()


def run(
    spec: CRLSpec, out: Path, progress: Progress, checkpoints: Checkpoints | None = None
) -> dict[str, Any]:
    """Learn the tasks one after the other, in one thread, and measure what is left of each.

    Args:
        spec: The run.
        out: A folder; the model with all its tasks goes there.
        progress: Told the fraction that is done and the numbers so far, at least once a second of
            work.
        checkpoints: Where to write how far it is, and to go on from; None: nowhere.

    Returns:
        `score` (mean performance on all tasks after the last), `curve` (environment steps in all,
        mean performance on all tasks, 0 on those that have not begun), `matrix` (row i: performance
        on tasks 0 to i after task i), `forgetting`, `curves` (of each task while it was learnt:
        steps of that task, performance), `sparsity` and `layers` of one task's network,
        `capacity`, `trained_weights` (how many each task could train), `hyper`, `updates` and
        `still` (see `sparse_core.metrics.tally`); under hard isolation `capacity_used`; with
        `plasticity` the curves of `dstrl.watching.plasticity`, over environment steps in all; with
        networks that learn one task alone `alone` (their curves), `transfers` and
        `forward_transfer`, their mean.

    Raises:
        ValueError: If the tasks do not suit the algorithm or each other, or do not fit into the
            network, in one line.
    """
    torch.set_num_threads(1)
    state = None
    if checkpoints is not None:
        state = checkpoints.load({**dict.fromkeys(OUTSIDE), "progress": progress})
    if state is None:
        course = _Course(spec.resolve(), progress)
        course.model = course.build()
        course.check(course.model)
    else:
        course = state["course"]
        course.streams = state["streams"]
    course.checkpoints = checkpoints
    model = course.model
    policy = policy_of(model)
    moves = course.moves
    for label in range(len(course.curves), len(course.tasks)):
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
        "trained_weights": policy.trained_weights(),
        **moves.result(),
        "hyper": dict(course.run.hyper),
    }
    if policy.isolation == "hard":
        result["capacity_used"] = policy.capacity_used()
    if course.plasticity is not None:
        result["plasticity"] = course.plasticity.curves
    save(model, out)
    if course.learns_alone:
        if hasattr(model, "replay_buffer"):
            model.replay_buffer = None  # checkpoints need not hold it any more
        for label in range(1 + len(course.alone), len(course.tasks)):
            course.learn_alone(label)
        result["alone"] = [course.curves[0], *course.alone]
        result["transfers"] = transfers(course.curves, result["alone"])
        result["forward_transfer"] = float(np.mean(result["transfers"]))
    course.close()
    return result


def make_model(spec: CRLSpec) -> BaseAlgorithm:
    """Make the algorithm of a resolved spec, which has learnt nothing yet."""
    baseline = spec.baseline_in_force
    return build(
        spec.run,
        make=spec.tasks[0].make,
        policy=continual_policies()[ALGORITHMS[spec.algo]],
        arch=None if baseline is None else arch_of(baseline, len(spec.tasks)),
        isolation=spec.isolation_in_force,
        share=spec.share if spec.isolation_in_force == "hard" else "none",
    )


class _Course:
    """The tasks of a run, and what was measured of them so far.

    Attributes:
        matrix: Row i: performance on tasks 0 to i after task i.
        curves: Of each task, while it was learnt.
        curve: Environment steps in all, mean performance on all tasks.
        alone: Of each task from the second on that a network of its own has learnt.
        learnt: Tasks that were learnt so far, those alone too.
        model: What learns the sequence.
        checkpoints: Where to write how far the run is; None: nowhere.
        streams: The random streams of the checkpoint that this was read from, until it goes on.
    """

    model: BaseAlgorithm

    def __init__(self, spec: CRLSpec, progress: Progress) -> None:
        self.spec = spec
        self.run = spec.run
        self.tasks = spec.tasks
        self.progress = progress
        self.matrix: list[list[float]] = []
        self.curves: list[Curve] = []
        self.curve: Curve = []
        self.alone: list[Curve] = []
        self.learnt = 0
        self.checkpoints: Checkpoints | None = None
        self.streams: Mapping[str, Any] | None = None
        self._steps = 0
        self._learning: BaseAlgorithm | None = None
        self._watch: _Watch | None = None
        self._callbacks: list[BaseCallback] = []
        self.plasticity = Plasticity(spec.eval_every or 1) if spec.plasticity else None
        self.evaluators = [
            Evaluator(task.make, spec.eval_episodes, derive(spec.seed, "task", label))
            for label, task in enumerate(self.tasks)
        ]

    @property
    def learns_alone(self) -> bool:
        """Whether each task is learnt alone too; where tasks are apart, they all are."""
        return self.spec.alone and self.spec.isolation_in_force != "apart"

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
        room = policy_of(model).room()
        if room is not None and room < len(self.tasks):
            raise InputError(
                f"sequence={name!r}: of its {len(self.tasks)} tasks only {room} have room beside "
                "each other; raise the sparsity, widen net_arch, or set share='reuse'",
                field="sequence",
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "checkpoints": None, "streams": None}

    @functools.cached_property
    def moves(self) -> UpdateTally:
        """Counts the updates of the sequence's networks."""
        return UpdateTally(policy_of(self.model).sparse_engines)

    def learn(self, model: BaseAlgorithm, label: int) -> None:
        """Learn the next task of the sequence, or go on with it."""
        curve = self._learn(model, label, self._look_in_sequence)
        row = [self.look(model, seen) for seen in range(label + 1)]
        curve.append((model.num_timesteps, row[-1]))
        self._steps += model.num_timesteps
        self.curve.append((self._steps, sum(row) / len(self.tasks)))
        self.curves.append(curve)
        self.matrix.append(row)

    def _look_in_sequence(self, model: BaseAlgorithm, label: int, index: int, done: int) -> float:
        latest = self.look(model, label, index)
        if done or not self.curve:
            before = self._earlier(model, label, index)
            self.curve.append((self._steps + done, (sum(before) + latest) / len(self.tasks)))
        return latest

    def learn_alone(self, label: int) -> None:
        """Let a network of its own learn one task, or go on with it."""
        model = self._learning if self.streams is not None else self.build()
        assert model is not None
        curve = self._learn(model, label, self._look_alone)
        curve.append((model.num_timesteps, self.look(model, label)))
        self.alone.append(curve)

    def _look_alone(self, model: BaseAlgorithm, label: int, index: int, done: int) -> float:
        return self.look(model, label, index)

    def look(self, model: BaseAlgorithm, label: int, index: int = 0) -> float:
        """Return the performance on one task, on the episodes of evaluation number `index`."""
        with policy_of(model).task(label):
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
        if self.matrix and policy_of(model).hard:
            return self.matrix[-1]
        return [self.look(model, seen, index) for seen in range(label)]

    def _learn(
        self,
        model: BaseAlgorithm,
        label: int,
        look: Callable[[BaseAlgorithm, int, int, int], float],
    ) -> Curve:
        """Learn a task, from its beginning or from a checkpoint; return its curve without the end.

        Args:
            model: Learns it.
            label: The task.
            look: Evaluates the model on it, given the number of the evaluation and the steps done.
        """
        streams, self.streams = self.streams, None
        if streams is None:
            self._begin(model, label, functools.partial(look, model, label))
        assert self._watch is not None
        savers = []
        if self.checkpoints is not None:
            savers = [Saver(self.checkpoints, {"course": self}, self.progress, self.learnt)]
        steps = self.run.steps or 1
        if streams is None:
            model.learn(steps, callback=[*self._callbacks, *savers])
        else:
            go_on(model, steps, [Resumed(self._callbacks, model, streams), *savers])
        policy_of(model).end_task()
        self.learnt += 1
        return self._watch.curve

    def _begin(self, model: BaseAlgorithm, label: int, look: Callable[[int, int], float]) -> None:
        run = self.run
        envs = vectorised(self.tasks[label].make, run.n_envs or 1)
        envs.seed(derive(run.seed, "training", label))
        before = model.get_env()
        begin_task(model, label, envs)
        if before is not None:
            before.close()
        self._learning = model
        self._watch = _Watch(look, run.steps or 1, run.eval_every or 1, self._tell)
        alone = len(self.curves) == len(self.tasks)
        measures = None if alone else self.plasticity
        callbacks = [SparseCallback(), self._watch, replay_callback(run.hyper), measures]
        self._callbacks = [callback for callback in callbacks if callback is not None]

    def _tell(self, part: float, value: float) -> None:
        trained = 2 * len(self.tasks) - 1 if self.learns_alone else len(self.tasks)
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
