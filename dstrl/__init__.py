"""Sparse policies for Stable-Baselines3, and what trains and measures them.

    from stable_baselines3 import PPO
    from dstrl import SparseActorCriticPolicy

    sparse = dict(method="srigl", sparsity=0.9)
    PPO(SparseActorCriticPolicy, "CartPole-v1", policy_kwargs=dict(sparse=sparse)).learn(50_000)

`from dstrl import SAC` (TD3, DDPG, DQN, PPO) instead of Stable-Baselines3's compiles gradient
steps, see `dstrl.compiled`. After `dstrl.register()` the names `"SparseMlpPolicy"` and so on work
too. Names are imported on first use, so `dstrl.runs.spec` costs no torch; those for sb3-contrib
need the extra `contrib` and are left out of `from dstrl import *`.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dstrl.compiled.dqn import DQN
    from dstrl.compiled.ppo import PPO
    from dstrl.compiled.sac import SAC
    from dstrl.compiled.td3 import DDPG, TD3
    from dstrl.policies.actor_critics import (
        SparseSACCnnPolicy,
        SparseSACMultiInputPolicy,
        SparseSACPolicy,
        SparseTD3CnnPolicy,
        SparseTD3MultiInputPolicy,
        SparseTD3Policy,
    )
    from dstrl.policies.actor_value import (
        SparseActorCriticCnnPolicy,
        SparseActorCriticPolicy,
        SparseMultiInputActorCriticPolicy,
    )
    from dstrl.policies.mixin import SparsePolicy
    from dstrl.policies.names import register
    from dstrl.policies.q_network import (
        SparseDQNCnnPolicy,
        SparseDQNMultiInputPolicy,
        SparseDQNPolicy,
    )
    from dstrl.policies.simba import SparseSimbaSACPolicy, SparseSimbaTD3Policy
    from dstrl.policies.simba_value import SparseSimbaActorCriticPolicy
    from dstrl.policies.tiny import tiny_arch
    from dstrl.runs.spec import RLSpec
    from dstrl.tasks.mixin import ContinualPolicy
    from dstrl.tasks.policies import (
        ContinualActorCriticPolicy,
        ContinualDQNPolicy,
        ContinualSACPolicy,
        ContinualTD3Policy,
    )
    from dstrl.watching.callbacks import SparseCallback

__all__ = [
    "DDPG",
    "DQN",
    "PPO",
    "SAC",
    "TD3",
    "ContinualActorCriticPolicy",
    "ContinualDQNPolicy",
    "ContinualPolicy",
    "ContinualSACPolicy",
    "ContinualTD3Policy",
    "RLSpec",
    "SparseActorCriticCnnPolicy",
    "SparseActorCriticPolicy",
    "SparseCallback",
    "SparseDQNCnnPolicy",
    "SparseDQNMultiInputPolicy",
    "SparseDQNPolicy",
    "SparseMultiInputActorCriticPolicy",
    "SparsePolicy",
    "SparseSACCnnPolicy",
    "SparseSACMultiInputPolicy",
    "SparseSACPolicy",
    "SparseSimbaActorCriticPolicy",
    "SparseSimbaSACPolicy",
    "SparseSimbaTD3Policy",
    "SparseTD3CnnPolicy",
    "SparseTD3MultiInputPolicy",
    "SparseTD3Policy",
    "register",
    "tiny_arch",
]

_NAMES = {
    "dstrl.compiled.dqn": ("DQN",),
    "dstrl.compiled.ppo": ("PPO",),
    "dstrl.compiled.sac": ("SAC",),
    "dstrl.compiled.td3": ("DDPG", "TD3"),
    "dstrl.policies.actor_critics": (
        "SparseSACCnnPolicy",
        "SparseSACMultiInputPolicy",
        "SparseSACPolicy",
        "SparseTD3CnnPolicy",
        "SparseTD3MultiInputPolicy",
        "SparseTD3Policy",
    ),
    "dstrl.policies.actor_value": (
        "SparseActorCriticCnnPolicy",
        "SparseActorCriticPolicy",
        "SparseMultiInputActorCriticPolicy",
    ),
    "dstrl.policies.contrib": (
        "SparseCrossQPolicy",
        "SparseMaskableCnnPolicy",
        "SparseMaskableMultiInputPolicy",
        "SparseMaskablePolicy",
        "SparseQRDQNCnnPolicy",
        "SparseQRDQNMultiInputPolicy",
        "SparseQRDQNPolicy",
        "SparseRecurrentCnnPolicy",
        "SparseRecurrentMultiInputPolicy",
        "SparseRecurrentPolicy",
        "SparseTQCCnnPolicy",
        "SparseTQCMultiInputPolicy",
        "SparseTQCPolicy",
        "SparseTRPOCnnPolicy",
        "SparseTRPOMultiInputPolicy",
        "SparseTRPOPolicy",
    ),
    "dstrl.policies.mixin": ("SparsePolicy",),
    "dstrl.policies.names": ("register",),
    "dstrl.policies.q_network": (
        "SparseDQNCnnPolicy",
        "SparseDQNMultiInputPolicy",
        "SparseDQNPolicy",
    ),
    "dstrl.policies.simba": ("SparseSimbaSACPolicy", "SparseSimbaTD3Policy"),
    "dstrl.policies.simba_contrib": ("SparseSimbaCrossQPolicy", "SparseSimbaTQCPolicy"),
    "dstrl.policies.simba_value": ("SparseSimbaActorCriticPolicy",),
    "dstrl.policies.tiny": ("tiny_arch",),
    "dstrl.runs.spec": ("RLSpec",),
    "dstrl.tasks.contrib": ("ContinualQRDQNPolicy", "ContinualTQCPolicy"),
    "dstrl.tasks.mixin": ("ContinualPolicy",),
    "dstrl.tasks.policies": (
        "ContinualActorCriticPolicy",
        "ContinualDQNPolicy",
        "ContinualSACPolicy",
        "ContinualTD3Policy",
    ),
    "dstrl.watching.callbacks": ("SparseCallback",),
}
_OF_CONTRIB = ("dstrl.policies.contrib", "dstrl.policies.simba_contrib", "dstrl.tasks.contrib")
_HOME = {name: home for home, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOME[name] in _OF_CONTRIB and find_spec("sb3_contrib") is None:
        raise ModuleNotFoundError(
            f"{name} needs sb3-contrib: pip install 'dstrl[contrib]'", name="sb3_contrib"
        )
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
