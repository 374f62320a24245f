"""Avalanche's plugins that protect earlier tasks in a dense network, as baselines use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from continual.avalanche_compat import avalanche
from continual.runs.data import TaskData
from continual.runs.spec import CLSpec
from sparse_core.imports import load

TASK_LABELS = "training and test"
"""When a network is told the task of a sample: always, it has a head for each."""


def protection(spec: CLSpec) -> list[Any]:
    """Return the plugins of a spec's baseline, one or none."""
    reference = spec.baseline_in_force.plugin
    return [load("baseline", reference, "a function", callable)(spec)] if reference else []


def samples_kept(spec: CLSpec, tasks: Sequence[TaskData]) -> int:
    """Count the training samples of other tasks that there are while one is learnt, at most."""
    counts = [len(task.train_y) for task in tasks]
    if spec.baseline_in_force.joint:
        return sum(counts) - min(counts)
    keeps = "replay_samples" in spec.baseline_in_force.settings
    return min(spec.replay_samples, sum(counts[:-1])) if keeps else 0


def replay(spec: CLSpec) -> Any:
    """Experience replay: a random sample of each earlier task, the same number of each.

    A batch of memories goes with each batch of the task, as in Avalanche (`Recalling`).
    """
    return _Replay(mem_size=spec.replay_samples)


def ewc(spec: CLSpec) -> Any:
    """Elastic weight consolidation (Kirkpatrick et al. 2017), a penalty for each earlier task.

    Deviation, which is Avalanche's: importances are squared gradients of batches, not of samples.
    """
    return avalanche.training.plugins.EWCPlugin(spec.ewc_lambda, mode="separate")


class _Replay(avalanche.training.plugins.ReplayPlugin):  # type: ignore[name-defined, misc]
    """Avalanche's, but for its call of what Avalanche itself calls deprecated."""

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Keep some of the task's samples, and fewer of earlier ones."""
        self.storage_policy.post_adapt(strategy, strategy.experience)
