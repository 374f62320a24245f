"""Worlds that are harder than they look: wrappers, changed physics and sequences of tasks."""

from __future__ import annotations

import gymnasium as gym

from envs.dynamics import CARTPOLE, MAX_RETURN, PENDULUM, PENDULUM_STEPS
from envs.sequences import CartPoleTask, PendulumTask, sequence
from envs.wrappers import NoisyFeatures, PermuteObservation

__all__ = ["CartPoleTask", "NoisyFeatures", "PendulumTask", "PermuteObservation", "sequence"]

gym.register(
    CARTPOLE, entry_point="envs.dynamics:ChangedCartPole", max_episode_steps=int(MAX_RETURN)
)
gym.register(
    PENDULUM, entry_point="envs.dynamics:ChangedPendulum", max_episode_steps=PENDULUM_STEPS
)
