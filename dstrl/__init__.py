"""Sparse policies for Stable-Baselines3, and what trains and measures them.

    from stable_baselines3 import PPO
    from dstrl import SparseActorCriticPolicy

    sparse = dict(method="srigl", sparsity=0.9)
    PPO(SparseActorCriticPolicy, "CartPole-v1", policy_kwargs=dict(sparse=sparse)).learn(50_000)

After `dstrl.register()` the names `"SparseMlpPolicy"` and so on work too. Names are imported on
first use, so `dstrl.spec` costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dstrl.callbacks import SparseCallback
    from dstrl.continual import (
        ContinualActorCriticPolicy,
        ContinualDQNPolicy,
        ContinualPolicy,
        ContinualSACPolicy,
        ContinualTD3Policy,
    )
    from dstrl.mixin import SparsePolicy
    from dstrl.policies import SparseActorCriticPolicy, SparseSACPolicy, register
    from dstrl.spec import RLSpec

__all__ = [
    "ContinualActorCriticPolicy",
    "ContinualDQNPolicy",
    "ContinualPolicy",
    "ContinualSACPolicy",
    "ContinualTD3Policy",
    "RLSpec",
    "SparseActorCriticPolicy",
    "SparseCallback",
    "SparsePolicy",
    "SparseSACPolicy",
    "register",
]

_HOME = {
    "ContinualActorCriticPolicy": "dstrl.continual",
    "ContinualDQNPolicy": "dstrl.continual",
    "ContinualPolicy": "dstrl.continual",
    "ContinualSACPolicy": "dstrl.continual",
    "ContinualTD3Policy": "dstrl.continual",
    "RLSpec": "dstrl.spec",
    "SparseActorCriticPolicy": "dstrl.policies",
    "SparseCallback": "dstrl.callbacks",
    "SparsePolicy": "dstrl.mixin",
    "SparseSACPolicy": "dstrl.policies",
    "register": "dstrl.policies",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
