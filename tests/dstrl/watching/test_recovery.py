"""Recovery after a change: a table worked by hand, and switches of a world that has them."""

from __future__ import annotations

import gymnasium as gym
import pytest
from stable_baselines3 import PPO

from dstrl.watching.recovery import SwitchWatch, recovery_times
from envs import DynamicsSchedule, ObservationScaleDrift, PermuteObservation

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


def steps(*factors, every):
    return {"kind": "step", "factors": factors, "every": every}


WALK = {"kind": "random-walk", "scale": 0.1, "every": 10}


@pytest.mark.parametrize(
    ("wrap", "expected"),
    [
        (lambda env: PermuteObservation(env, every=30, during_episodes=True), [30, 60, 90]),
        (lambda env: DynamicsSchedule(env, {"length": WALK}, during_episodes=True), []),
        (lambda env: ObservationScaleDrift(env, WALK, during_episodes=True), []),
        # the pole jumps, and gravity drifts; the second factor is the first
        (
            lambda env: DynamicsSchedule(
                env, {"length": steps(1, 1, 2, every=20), "gravity": WALK}, during_episodes=True
            ),
            [40, 60],
        ),
        # two that jump, under a wrapper that knows of no world
        (
            lambda env: gym.wrappers.TimeLimit(
                ObservationScaleDrift(
                    DynamicsSchedule(env, {"gravity": steps(1, 3, every=50)}, True),
                    steps(1, 0.5, every=40),
                    during_episodes=True,
                ),
                500,
            ),
            [40, 50, 80],
        ),
    ],
)
def test_regimes_switch_and_what_drifts_does_not(wrap, expected):
    assert switches(wrap(gym.make("CartPole-v1"))) == expected


def test_recovery_after_steps_of_the_physics():
    env = DynamicsSchedule(gym.make("CartPole-v1"), {"gravity": steps(1, 3, every=40)}, True)
    seen = switches(env)
    assert seen == [40, 80]
    # from 100 to 20, 92 at 65; from 95 to 15, 87 at 120
    curve = [[30, 100], [50, 20], [60, 80], [65, 92], [70, 95], [90, 15], [110, 80], [120, 87]]
    assert recovery_times(curve, seen) == [[1, 25], [2, 40]]
