"""Training steps on a GPU: SAC's of Stable-Baselines3, and one of SimBa's critic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import stable_baselines3 as sb3
import torch

import dstrl
from sweeps.bench.gpu_clock import in_turns
from sweeps.bench.learning import FreeEnv, arguments
from sweeps.bench.simba import training_step

SPARSITY = 0.9
SETTINGS = {"dense": ("dense", 1), "masked": ("masked", 1)} | {
    f"condensed {group}": ("condensed", group) for group in (1, 4, 16)
}
"""Backend and group by name."""


def step_ratios(device: torch.device, rounds: int) -> dict[str, dict[str, float]]:
    """Return how many times as fast as dense each step is, by case and contestant."""
    cases = {
        "sac": {name: sac_step(device, *setting) for name, setting in SETTINGS.items()},
        "simba": {
            name: training_step(backend, SPARSITY, group, str(device))
            for name, (backend, group) in SETTINGS.items()
        },
    }
    found = {}
    for case, calls in cases.items():
        medians = in_turns(calls, rounds, graphs=False, block_ms=50)
        found[case] = {name: medians["dense"] / took for name, took in medians.items()}
    return found


def sac_step(device: torch.device, backend: str, group: int) -> Callable[[], object]:
    """Return SAC's gradient step, [1024, 1024], batch 256, with HalfCheetah's sizes."""
    policy: Any = "MlpPolicy"
    policy_kwargs: dict[str, Any] = {"net_arch": [1024, 1024]}
    if backend != "dense":
        policy = dstrl.SparseSACPolicy
        policy_kwargs["sparse"] = dict(
            method="static",
            sparsity=SPARSITY,
            structure="constant_fan_in",
            backend=backend,
            group=group,
        )
    given = arguments("sac") | {"device": str(device)}
    model = sb3.SAC(policy, FreeEnv(), policy_kwargs=policy_kwargs, **given)
    model.learn(300)
    return lambda: model.train(1, 256)
