"""Which policy for tasks in sequence an algorithm has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec

from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3

from dstrl.policies.names import Algorithm
from dstrl.tasks import policies
from dstrl.tasks.mixin import ContinualPolicy


@cache
def continual_policies() -> Mapping[Algorithm, type[ContinualPolicy]]:
    """Return each algorithm's policy; those of sb3-contrib too if it is installed."""
    table: dict[Algorithm, type[ContinualPolicy]] = {
        PPO: policies.ContinualActorCriticPolicy,
        A2C: policies.ContinualActorCriticPolicy,
        DQN: policies.ContinualDQNPolicy,
        SAC: policies.ContinualSACPolicy,
        TD3: policies.ContinualTD3Policy,
        DDPG: policies.ContinualTD3Policy,
    }
    if find_spec("sb3_contrib") is not None:
        from sb3_contrib import QRDQN, TQC

        from dstrl.tasks import contrib

        table |= {TQC: contrib.ContinualTQCPolicy, QRDQN: contrib.ContinualQRDQNPolicy}
    return table
