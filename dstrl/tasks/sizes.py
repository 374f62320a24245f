"""How large the dense policies of baselines are: as many weights as what they are compared with."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from dstrl.policies.mixin import SparsePolicy
from dstrl.policies.tiny import Arch, dense_arch, tiny_arch
from dstrl.settings import Settings
from sparse_core.baselines import Baseline
from sparse_core.budgets.widths import Widths


def arch_of(baseline: Baseline, tasks: int) -> Arch | None:
    """Return what chooses the hidden layers of a baseline's policies; None: they stay as they are.

    Args:
        baseline: The baseline.
        tasks: How many tasks there are.
    """
    if baseline.size == "whole":
        return None

    def chosen(
        policy: type[Any],
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        **policy_kwargs: Any,
    ) -> Widths:
        spaces_of = (policy, observation_space, action_space)
        told = policy_kwargs | {"isolation": "none", "share": "none"}
        if baseline.size == "task":
            return tiny_arch(*spaces_of, **told)
        settings: Settings = told.pop("sparse").dense()
        whole = policy(
            observation_space, action_space, lambda progress: 0.0, **told, sparse=settings
        )
        budget = share_of_a_task(whole, tasks)
        return dense_arch(*spaces_of, budget, "learn fewer tasks", sparse=settings, **told)

    return chosen


def share_of_a_task(policy: SparsePolicy, tasks: int) -> int:
    """Count a task's share of the weights of one policy with a head for each task."""
    layers = [layer for engine in policy.sparse_engines.values() for layer in engine.layers()]
    heads = sum(layer.total for layer in layers if layer.role == "output")
    return (sum(layer.total for layer in layers) - heads) // tasks + heads
