"""Recovery after a change: a table worked by hand, and switches of a world that has them."""

from __future__ import annotations

import gymnasium as gym
import pytest
from stable_baselines3 import PPO

from dstrl.watching.recovery import SwitchWatch, recovery_times
from envs import DynamicsSchedule, PermuteObservation

CURVE = [[0, 0], [10, 100], [20, 20], [30, 60], [40, 92], [50, 100], [60, 95], [70, 90], [80, 70]]


@pytest.mark.parametrize(
    ("switches", "share", "expected"),
    [
        ([], 0.9, []),
        # at 10 it was 100, fell to 20; 20 + 0.9 * 80 = 92 is reached at 40, half of it at 30
        ([10], 0.9, [[1, 30]]),
        ([10], 0.5, [[1, 20]]),
        ([15], 0.9, [[1, 25]]),
        ([15], 1.0, [[1, 35]]),
        # after 50 it only falls: at least until the next switch, or the end
        ([10, 50, 65], 0.9, [[1, 30], [2, 15], [3, 15]]),
        # before 30 it was 60, and never lower since
        ([30], 0.9, [[1, 0]]),
        # nothing was measured before -1, or after 80
        ([-1, 80], 0.9, []),
        ([-1, 10], 0.9, [[2, 30]]),
    ],
)
def test_recovery_by_hand(switches, share, expected):
    assert recovery_times(CURVE, switches, share) == expected


def test_negative_returns_are_lost_and_regained_too():
    curve = [[0, -100], [10, -900], [20, -300], [30, -150]]
    assert recovery_times(curve, [5], 0.9) == [[1, 25]]


def switches(env):
    watch = SwitchWatch()
    model = PPO("MlpPolicy", env, n_steps=32, n_epochs=1, batch_size=32, device="cpu", seed=0)
    model.learn(96, callback=watch)
    return watch.switches


def test_regimes_switch_and_what_drifts_does_not():
    orders = PermuteObservation(gym.make("CartPole-v1"), every=30, during_episodes=True)
    assert switches(orders) == [30, 60, 90]
    walk = {"length": {"kind": "random-walk", "scale": 0.1, "every": 10}}
    assert switches(DynamicsSchedule(gym.make("CartPole-v1"), walk, during_episodes=True)) == []
