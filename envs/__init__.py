"""Worlds that are harder than they look: wrappers, changed physics and sequences of tasks."""

from __future__ import annotations

import gymnasium as gym

from envs.acting import ActionPermutation, RewardFlip
from envs.dynamics import CARTPOLE, MAX_RETURN, PENDULUM, PENDULUM_STEPS
from envs.moving import DynamicsSchedule
from envs.noise import NoisyFeatures
from envs.observing import ObservationScaleDrift, PermuteObservation, SensorDropout
from envs.sequences import CartPoleTask, PendulumTask, sequence
from envs.tasks import TaskSequence
from envs.worlds import register

__all__ = [
    "ActionPermutation",
    "CartPoleTask",
    "DynamicsSchedule",
    "NoisyFeatures",
    "ObservationScaleDrift",
    "PendulumTask",
    "PermuteObservation",
    "RewardFlip",
    "SensorDropout",
    "TaskSequence",
    "sequence",
]

gym.register(
    CARTPOLE, entry_point="envs.dynamics:ChangedCartPole", max_episode_steps=int(MAX_RETURN)
)
gym.register(
    PENDULUM, entry_point="envs.dynamics:ChangedPendulum", max_episode_steps=PENDULUM_STEPS
)
register()
