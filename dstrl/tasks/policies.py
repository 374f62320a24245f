"""Policies for tasks in sequence of Stable-Baselines3's algorithms."""

from __future__ import annotations

from dstrl.policies.actor_critics import SparseSACPolicy, SparseTD3Policy
from dstrl.policies.actor_value import SparseActorCriticPolicy
from dstrl.policies.q_network import SparseDQNPolicy
from dstrl.tasks.mixin import ContinualPolicy


class ContinualActorCriticPolicy(ContinualPolicy, SparseActorCriticPolicy):
    """The policy of PPO and A2C for tasks in sequence."""


class ContinualDQNPolicy(ContinualPolicy, SparseDQNPolicy):
    """DQN's policy for tasks in sequence."""


class ContinualSACPolicy(ContinualPolicy, SparseSACPolicy):
    """SAC's policy for tasks in sequence."""


class ContinualTD3Policy(ContinualPolicy, SparseTD3Policy):
    """The policy of TD3 and DDPG for tasks in sequence."""
