"""The contestants of the benchmark of reinforcement learning, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import stable_baselines3 as sb3

import dstrl
from dstrl.policies.simba import ACTOR, SparseSimbaSACPolicy
from sweeps.bench.learning import FreeEnv, Learner, arguments
from sweeps.bench.rl_cases import Case

POLICIES: Mapping[str, Any] = {
    "sac": dstrl.SparseSACPolicy,
    "td3": dstrl.SparseTD3Policy,
    "ppo": dstrl.SparseActorCriticPolicy,
}
"""Sparse policies by algorithm."""


@dataclass(frozen=True)
class Contestant:
    """A way to train an agent.

    Attributes:
        backend: `masked`, `condensed` or `auto`; `dense` for networks that are not sparse.
        group: Neurons that share their inputs.
        library: `sb3` for Stable-Baselines3's algorithm, `dstrl` for the one of the same name that
            compiles its training step, `sbx` for SBX.
        net_arch: Hidden layers where they are not those of the case.
    """

    backend: str = "dense"
    group: int = 1
    library: str = "sb3"
    net_arch: tuple[int, ...] | None = None


CONTESTANTS: Mapping[str, Contestant] = {
    "dense": Contestant(),
    "dense-256": Contestant(net_arch=(256, 256)),
    "masked": Contestant("masked"),
    "auto": Contestant("auto"),
    "condensed": Contestant("condensed"),
    "condensed-4": Contestant("condensed", 4),
    "compiled": Contestant("condensed", 1, "dstrl"),
    "compiled-4": Contestant("condensed", 4, "dstrl"),
    "sbx": Contestant(library="sbx"),
}
"""By the name that the command line has for them."""


def compiled(algo: str) -> Any:
    """Return the algorithm whose training step is compiled; None: there is none."""
    return getattr(dstrl, algo.upper(), None)


def learner(case: Case, contestant: Contestant, method: str, clock: str = "wall") -> Learner:
    """Make an agent that has its first topology behind it, and all its kernels.

    Args:
        case: What to train.
        contestant: One that this process trains.
        method: What moves the topology, at the default interval.
        clock: Name of a clock of `sweeps.bench.learning.CLOCKS`.
    """
    algo = case.algo
    kind = compiled(algo) if contestant.library == "dstrl" else getattr(sb3, algo.upper())
    policy: Any = "MlpPolicy"
    policy_kwargs: dict[str, Any] = {"net_arch": list(contestant.net_arch or case.net_arch)}
    if case.network == "simba":
        policy = SparseSimbaSACPolicy
        policy_kwargs = {"net_arch": {"pi": list(ACTOR), "qf": list(case.net_arch)}}
        policy_kwargs["sparse"] = {"method": "dense"}
    if contestant.backend != "dense":
        policy = POLICIES[algo] if case.network == "mlp" else policy
        policy_kwargs["sparse"] = dict(
            method=method,
            sparsity=case.sparsity,
            backend=contestant.backend,
            group=contestant.group,
        )
    model = kind(policy, FreeEnv(), policy_kwargs=policy_kwargs, **arguments(algo))
    return Learner(model, clock)
