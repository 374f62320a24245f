"""Learn a sequence of tasks with one policy, and measure what is kept and what is gained.

At a switch all that belongs to the task before is reset: the optimizers' state, the rollout or
replay buffer, SAC's entropy coefficient (if it is learnt) to its initial value; schedules of
learning rates and of exploration begin again, as each task is a call of `learn` of its own. What
stays is the trunk, as `dstrl.continual` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from dstrl.build import build, vectorised
from dstrl.callbacks import SparseCallback
from dstrl.continual import ISOLATION, POLICIES, SHARES, ContinualPolicy
from dstrl.evaluate import Evaluator
from dstrl.seeds import derive
from dstrl.spec import RLSpec
from dstrl.transfer import forgetting, performance, transfers
from envs.sequences import CartPoleTask, sequence
from sparse_core.checks import one_of

Progress = Callable[[str, float], None]
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class SequenceSpec:
    """One run over a sequence of tasks.

    Attributes:
        run: Algorithm, sparsity and seed; `steps`, `eval_every` and schedules are those of each
            task. Its `env` only says whose tuned hyper-parameters are taken.
        tasks: The tasks in their order.
        isolation: As in `ContinualPolicy`.
        share: As in `ContinualPolicy`.
        baselines: Whether to learn each task alone too, which forward transfer is measured
            against.
    """

    run: RLSpec = field(default_factory=lambda: RLSpec(steps=20_000))
    tasks: tuple[CartPoleTask, ...] = field(default_factory=lambda: sequence("cartpole"))
    isolation: str = "hard"
    share: str = "none"
    baselines: bool = True

    def __post_init__(self) -> None:
        one_of("isolation", self.isolation, ISOLATION)
        one_of("share", self.share, SHARES)
        one_of("algo", self.run.algo, POLICIES)
        object.__setattr__(self, "tasks", tuple(self.tasks))
        if not self.tasks:
            raise ValueError("tasks=(): must be at least one task")
        if self.run.resolve().hyper["normalize"]:
            raise ValueError("hyper.normalize=True: its statistics would be shared by all tasks")
        if self.run.noise:
            raise ValueError(f"noise={self.run.noise!r}: tasks make their own environments")


def begin_task(model: BaseAlgorithm, label: int, env: VecEnv | None = None) -> None:
    """Let an algorithm go on with the next task, and reset what belonged to the one before.

    Args:
        model: An algorithm with a `ContinualPolicy`; a task in training is ended.
        label: The next task.
        env: Its environments, with the same spaces; None: they stay.

    Raises:
        ValueError: If the policy cannot learn this task, or the spaces differ.
    """
    policy = _policy(model)
    if policy.training_task is not None:
        policy.end_task()
    policy.begin_task(label)
    if env is not None:
        model.set_env(env)
    for name in ("rollout_buffer", "replay_buffer"):
        buffer = getattr(model, name, None)
        if buffer is not None:
            buffer.reset()
    _reset_entropy(model)


def _policy(model: BaseAlgorithm) -> ContinualPolicy:
    if not isinstance(model.policy, ContinualPolicy):
        kind = type(model.policy).__name__
        raise ValueError(f"policy={kind}: tasks in sequence need one of dstrl.continual")
    return model.policy


def _reset_entropy(model: Any) -> None:
    optimizer = getattr(model, "ent_coef_optimizer", None)
    if optimizer is None:
        return
    initial = float(str(model.ent_coef).partition("_")[2] or 1.0)
    with torch.no_grad():
        model.log_ent_coef.fill_(math.log(initial))
    optimizer.state.clear()


def run_sequence(spec: SequenceSpec, progress: Progress | None = None) -> dict[str, Any]:
    """Learn the tasks one after another; evaluate all tasks seen after each.

    Args:
        spec: The run.
        progress: Told what was evaluated, and the performance.

    Returns:
        `matrix` (row i: performance on tasks 0 to i after task i), `curves` and `baselines` (for
        each task, step and performance), `performance`, `forgetting`, `forward_transfer`,
        `transfers` (the last two None without baselines), `sparsity` and `capacity` (fraction of
        the trunk that ended tasks hold). The first task is the same in the sequence and alone: its
        forward transfer is 0.
    """
    torch.set_num_threads(1)
    run = spec.run.resolve()
    tell = progress or (lambda what, value: None)
    evaluators = [
        Evaluator(task.make, run.eval_episodes, derive(run.seed, "task", label))
        for label, task in enumerate(spec.tasks)
    ]

    def look(model: BaseAlgorithm, label: int, index: int) -> float:
        with _policy(model).task(label):
            returns = evaluators[label](model, index)
        return spec.tasks[label].performance(float(np.mean(returns)))

    def learn(model: BaseAlgorithm, label: int, what: str) -> Curve:
        envs = vectorised(spec.tasks[label].make, run.n_envs or 1)
        envs.seed(derive(run.seed, "training", label))
        begin_task(model, label, envs)
        assert run.eval_every is not None
        watch = _Watch(lambda index: look(model, label, index), run.eval_every)
        model.learn(run.steps or 0, callback=[SparseCallback(), watch])
        _policy(model).end_task()
        envs.close()
        tell(f"{what} {label}", watch.curve[-1][1])
        return watch.curve

    model = _build(spec, run)
    curves: list[Curve] = []
    matrix: list[list[float]] = []
    for label in range(len(spec.tasks)):
        curves.append(learn(model, label, "task"))
        matrix.append([look(model, seen, 0) for seen in range(label + 1)])
    result = {"matrix": matrix, "curves": curves} | _state(model)
    result |= {"performance": performance(matrix), "forgetting": forgetting(matrix)}
    result |= {"baselines": None, "forward_transfer": None, "transfers": None}
    if spec.baselines:
        alone = [curves[0]]
        for label in range(1, len(spec.tasks)):
            alone.append(learn(_build(spec, run), label, "alone"))
        gains = transfers(curves, alone)
        result |= {"baselines": alone, "transfers": gains}
        result["forward_transfer"] = sum(gains) / len(gains)
    for evaluator in evaluators:
        evaluator.close()
    return result


class _Watch(BaseCallback):
    """Evaluates the task in training at its beginning, at regular steps and at its end."""

    def __init__(self, evaluate: Callable[[int], float], every: int) -> None:
        super().__init__()
        self.evaluate = evaluate
        self.every = every
        self.curve: Curve = []

    def _on_training_start(self) -> None:
        self._look()

    def _on_step(self) -> bool:
        if self.num_timesteps >= len(self.curve) * self.every:
            self._look()
        return True

    def _on_training_end(self) -> None:
        if self.curve[-1][0] == self.num_timesteps:
            self.curve.pop()
        self._look()

    def _look(self) -> None:
        self.curve.append((self.num_timesteps, self.evaluate(len(self.curve))))


def _build(spec: SequenceSpec, run: RLSpec) -> BaseAlgorithm:
    return build(
        run,
        make=spec.tasks[0].make,
        policy=POLICIES[run.algo],
        isolation=spec.isolation,
        share=spec.share,
    )


def _state(model: BaseAlgorithm) -> dict[str, Any]:
    policy = _policy(model)
    return {
        "sparsity": {name: engine.sparsity for name, engine in policy.sparse_engines.items()},
        "capacity": policy.capacity(),
    }


def report(results: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of the mean matrix over seeds, and the metrics of each seed."""
    tasks = len(results[0]["matrix"])
    head = "| after task | " + " | ".join(f"on task {task}" for task in range(tasks)) + " |"
    lines = [head, "|" + "---|" * (tasks + 1)]
    for row in range(tasks):
        means = [np.mean([r["matrix"][row][task] for r in results]) for task in range(row + 1)]
        cells = [f"{mean:.3f}" for mean in means] + [""] * (tasks - row - 1)
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    lines.append("")
    for name in ("performance", "forgetting", "forward_transfer"):
        values = [r[name] for r in results]
        if None not in values:
            each = ", ".join(f"{value:.3f}" for value in values)
            lines.append(f"{name}: {np.mean(values):.3f} ({each})")
    return "\n".join(lines)
