"""Train one run of reinforcement learning, evaluate it on the way, and say how it went."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from dstrl.policies.mixin import SparsePolicy
from dstrl.policies.names import policies
from dstrl.policies.targets import begin_alike
from dstrl.runs import references
from dstrl.runs.build import build, make_env, replay_callback
from dstrl.runs.evaluate import Evaluator
from dstrl.runs.saved import save
from dstrl.runs.spec import RLSpec
from dstrl.watching.callbacks import SparseCallback
from dstrl.watching.horizon import lengthen
from dstrl.watching.lines import lines
from dstrl.watching.metrics import flops
from dstrl.watching.plasticity import Plasticity
from dstrl.watching.recovery import SwitchWatch, recovery_times
from dstrl.watching.resuming import OUTSIDE, Last, Resumed, Saver, go_on
from sparse_core.ahead import import_ahead
from sparse_core.checkpoints import Checkpoints
from sparse_core.engine import Engine
from sparse_core.metrics.tally import UpdateTally, weights
from sparse_core.tickets import Legacy, Round, other_seed

FINAL_PART = 0.1
"""The score is the mean over this last part of the evaluations (Graesser et al. 2022)."""

PROGRESS_EVERY = 0.5
"""Seconds between two reports of progress."""

Progress = Callable[[float, Mapping[str, float]], None]


def ahead() -> None:
    """Import what runs import as they go, for a process that forks them."""
    policies()
    import_ahead()


def run(
    spec: RLSpec, out: Path, progress: Progress, checkpoints: Checkpoints | None = None
) -> dict[str, Any]:
    """Train as the spec says, in one thread.

    A lottery ticket is trained in rounds, each as long as the spec says and by an algorithm of its
    own that begins with the same random numbers. The result is the last round's.

    Args:
        spec: The run.
        out: A folder; the trained model goes there.
        progress: Told the fraction that is done and the numbers so far, at least once a second of
            work.
        checkpoints: Where to write how far it is, and to go on from; None: nowhere. They may be of
            a run of fewer steps that this one can go on from (`RLSpec.part_of`).

    Returns:
        `score` (mean return over the last tenth of the evaluations), `curve` (environment steps,
        mean return), `returns` (of each episode of each evaluation), `sparsity`, `layers`,
        `updates` and `still` (see `sparse_core.metrics.tally`), `hyper`; `steps` (that were done);
        `random_score` (mean return of random actions, in as many episodes as an evaluation has);
        `flops` (`sparse` and `dense`: theoretical operations to act once, and under `training` to
        train all networks on one sample, see `dstrl.watching.metrics.flops`);
        `measured` (what callbacks of the user's own returned, by their names, if any did); with a
        limit of time `curve_seconds` too (CPU time of training, mean return); if the world changed
        from one regime to another `recovery` (number of the change, environment steps until the
        loss was made good, see `dstrl.watching.recovery`) and `recovery_steps`, their mean; with
        `plasticity` the curves of `dstrl.watching.plasticity`; with rounds `rounds` (`sparsity`,
        `score` and `curve` of each).

    Raises:
        ValueError: If the environment does not suit the algorithm, in one line.
    """
    torch.set_num_threads(1)
    spec = spec.resolve()
    rounds = spec.rounds
    left: dict[str, Legacy] = {}
    results: list[dict[str, Any]] = []
    state = None
    if checkpoints is not None:
        state = checkpoints.load({**dict.fromkeys(OUTSIDE), "progress": progress})
    if state is not None:
        results = state["results"]
    while len(results) <= rounds:
        if state is None:
            training = _Training(spec, _part(progress, len(results), rounds + 1), left)
        else:
            training = state["training"]
            training.lengthen(spec)
        saver = None
        if checkpoints is not None:
            kept = {"training": training, "results": results}
            saver = Saver(checkpoints, kept, progress, len(results))
        followed = out / f"round_{len(results)}" if rounds else out
        training.learn(followed, saver, state)
        state = None
        result, left = training.end(out, len(results) + 1)
        results.append(result)
    if not rounds:
        return results[-1]
    each = [{key: r[key] for key in ("sparsity", "score", "curve")} for r in results]
    return results[-1] | {"rounds": each}


def _part(progress: Progress, index: int, parts: int) -> Progress:
    """Return the progress of one of several equal parts."""
    return lambda done, numbers: progress((index + done) / parts, numbers)


class _Training:
    """The training of one round.

    Args:
        spec: The resolved run.
        progress: As that of `run`.
        before: What the last round left, by network.
    """

    def __init__(self, spec: RLSpec, progress: Progress, before: Mapping[str, Legacy]) -> None:
        self.spec = spec
        self.model = build(spec)
        policy = policy_of(self.model)
        self.rounds = _rounds(policy, before)
        self.evaluator = Evaluator(lambda: make_env(spec), spec.eval_episodes, spec.seed)
        self.conductor = _Conductor(spec, self.evaluator, progress)
        self.switches = SwitchWatch()
        self.plasticity = Plasticity(spec.eval_every or 1)
        self.moves = UpdateTally(policy.sparse_engines)
        self.own = {name: references.callback(name) for name in spec.callbacks}
        progress(0.0, {"steps": 0.0})
        callbacks = [
            SparseCallback(),
            replay_callback(spec.hyper),
            *self.own.values(),
            self.switches,
            self.plasticity if spec.plasticity else None,
            self.conductor,
        ]
        self.callbacks = [callback for callback in callbacks if callback is not None]

    def lengthen(self, spec: RLSpec) -> None:
        """Train for as many steps as a spec says that differs in nothing else."""
        if spec.steps == self.spec.steps:
            return
        self.spec = self.conductor.spec = spec
        lengthen(self.model, policy_of(self.model).sparse_engines, spec.steps or 0)

    def learn(self, out: Path, saver: Saver | None, state: Mapping[str, Any] | None) -> None:
        """Train to the end, and evaluate there.

        Args:
            out: The folder for what trackers follow.
            saver: Writes checkpoints.
            state: Of the checkpoint that this was read from; None: it has not begun.
        """
        savers = [] if saver is None else [saver]
        last = [Last(saver)] if saver is not None and saver.checkpoints.keep else []
        steps = self.spec.steps or 0
        with lines(self.model, out):
            if state is None:
                self.model.learn(steps, callback=[*last, *self.callbacks, *savers])
            else:
                begun = Resumed(self.callbacks, self.model, state["streams"], state["ended"])
                go_on(self.model, steps, [*last, begun, *savers])
            self.moves.end()
            self.conductor.evaluate(final=True)

    def end(self, out: Path, following: int) -> tuple[dict[str, Any], dict[str, Legacy]]:
        """Write the model, and tidy.

        Args:
            out: The folder for the trained model.
            following: Number of the round that follows.

        Returns:
            The result, and what is left to the next round.
        """
        spec, model, conductor = self.spec, self.model, self.conductor
        chance = self.evaluator.at_random(model)
        self.evaluator.close()
        save(model, out)
        assert model.env is not None
        model.env.close()
        measured = {
            name: references.measured(name, one)
            for name, one in self.own.items()
            if isinstance(one, references.Measures)
        }
        result = _result(spec, model, conductor, self.moves)
        result["random_score"] = float(chance.mean())
        operations = flops(model)
        if operations is not None:
            result["flops"] = operations.result()
        recovery = recovery_times(conductor.curve, self.switches.switches)
        if recovery:
            result["recovery"] = recovery
            result["recovery_steps"] = float(np.mean([steps for _, steps in recovery]))
        if spec.plasticity:
            result["plasticity"] = self.plasticity.curves
        if measured:
            result["measured"] = measured
        if following > spec.rounds:
            return result, {}
        return result, {
            name: one.end(following, partial(_draw, spec, name))
            for name, one in self.rounds.items()
        }


def _rounds(policy: SparsePolicy, before: Mapping[str, Legacy]) -> dict[str, Round]:
    """Begin a round of each network that is a lottery ticket; targets begin as their networks."""
    rounds = {
        name: Round(engine, before.get(name))
        for name, engine in policy.sparse_engines.items()
        if engine.config.facts.in_rounds
    }
    for part in policy.sparse_parts() if before else ():
        if part.target is not None:
            begin_alike(part.root, part.target)
    return rounds


def _draw(spec: RLSpec, name: str) -> Engine:
    """Build a network with other weights."""
    model = build(dataclasses.replace(spec, seed=other_seed(spec.seed)))
    assert model.env is not None
    model.env.close()
    return policy_of(model).sparse_engines[name]


class _Conductor(BaseCallback):
    """Evaluates when it is time and reports progress."""

    def __init__(self, spec: RLSpec, evaluator: Evaluator, progress: Progress) -> None:
        super().__init__()
        self.spec = spec
        self.evaluator = evaluator
        self.progress = progress
        self.curve: list[tuple[int, float]] = []
        self.returns: list[list[float]] = []
        self.seconds: list[float] = []
        self._reported = -math.inf
        self._started = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_started": self.spent, "_reported": -math.inf}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._started = time.process_time() - self._started

    @property
    def spent(self) -> float:
        """Seconds of CPU time that training took so far, evaluations left out."""
        return time.process_time() - self._started

    def _on_training_start(self) -> None:
        self._started = time.process_time()

    def _on_step(self) -> bool:
        assert self.spec.eval_every is not None
        if self.spec.max_seconds is not None and self.spent >= self.spec.max_seconds:
            return False
        if self.num_timesteps >= (len(self.curve) + 1) * self.spec.eval_every:
            self.evaluate()
        elif time.monotonic() - self._reported >= PROGRESS_EVERY:
            self.report()
        return True

    def evaluate(self, final: bool = False) -> None:
        """Evaluate now; a final evaluation replaces one that was made at the very same step."""
        spent = self.spent
        if final and self.curve and self.curve[-1][0] == self.num_timesteps:
            for kept in (self.curve, self.returns, self.seconds):
                kept.pop()
        returns = self.evaluator(self.model, len(self.curve))
        mean = float(returns.mean())
        self.curve.append((self.num_timesteps, mean))
        self.returns.append(returns.tolist())
        self.seconds.append(spent)
        self.logger.record("eval/mean_reward", mean)
        if not final:
            self.logger.record("time/total_timesteps", self.num_timesteps)
            self.logger.dump(self.num_timesteps)
        self.report()
        self._started += self.spent - spent

    def report(self) -> None:
        """Report how far the run is."""
        numbers = {"steps": float(self.num_timesteps)}
        if self.curve:
            numbers["return"] = self.curve[-1][1]
        done = self.num_timesteps / (self.spec.steps or 1)
        if self.spec.max_seconds is not None:
            done = max(done, self.spent / self.spec.max_seconds)
        self.progress(min(1.0, done), numbers)
        self._reported = time.monotonic()


def policy_of(model: BaseAlgorithm) -> SparsePolicy:
    """Return an algorithm's policy, which is a sparse one."""
    assert isinstance(model.policy, SparsePolicy)
    return model.policy


def _result(
    spec: RLSpec, model: BaseAlgorithm, conductor: _Conductor, moves: UpdateTally
) -> dict[str, Any]:
    policy = policy_of(model)
    curve = conductor.curve
    last = curve[-math.ceil(FINAL_PART * len(curve)) :]
    timed = {}
    if spec.max_seconds is not None:
        means = [y for _, y in curve]
        timed["curve_seconds"] = [list(p) for p in zip(conductor.seconds, means, strict=True)]
    return {
        "score": float(np.mean([y for _, y in last])),
        "curve": [[x, y] for x, y in curve],
        "returns": conductor.returns,
        **weights(policy.sparse_engines),
        "steps": model.num_timesteps,
        "optimizer_steps": {n: engine.steps for n, engine in policy.sparse_engines.items()},
        **moves.result(),
        "hyper": dict(spec.hyper),
        **timed,
    }
