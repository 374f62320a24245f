"""Orders, dead sensors and scales of what is observed."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import ObservationScaleDrift, PermuteObservation, SensorDropout
from envs.schedules import Step
from sparse_core import InputError


class Counting(gym.Env):
    """Observes 1, 2, ..., d for ever; its bounds are given, or 0 to d."""

    action_space = spaces.Discrete(2)

    def __init__(self, d=4, low=0.0, high=None, dtype=np.float32):
        high = float(d) if high is None else high
        self.observation_space = spaces.Box(low, high, (d,), dtype=dtype)
        self.features = np.arange(1, d + 1, dtype=dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.features.copy(), {}

    def step(self, action):
        return self.features.copy(), 1.0, False, False, {}


def seen(env, clocks, seed=0):
    env.reset(seed=seed)
    return np.array([env.reset(options={"clock": clock})[0] for clock in clocks])


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 9), st.integers(0, 99))
def test_each_order_has_all_features_and_differs_from_the_one_before(d, every, seed):
    orders = seen(PermuteObservation(Counting(d), every=every), range(0, 10 * every, every), seed)
    assert orders[0].tolist() == list(range(1, d + 1))
    assert all(sorted(order) == list(range(1, d + 1)) for order in orders.tolist())
    assert all((one != other).any() for one, other in itertools.pairwise(orders))


def test_an_order_holds_for_so_many_steps():
    env = PermuteObservation(Counting(5), permutation=[4, 3, 2, 1, 0], every=10)
    orders = seen(env, [0, 9, 10, 19, 20])
    assert orders[0].tolist() == orders[1].tolist() == [5, 4, 3, 2, 1]
    assert orders[2].tolist() == orders[3].tolist() != orders[1].tolist()
    assert orders[4].tolist() != orders[3].tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.floats(0, 0.99), st.integers(0, 99))
def test_a_fraction_of_the_sensors_is_dead_and_the_others_read_the_truth(d, share, seed):
    env = SensorDropout(Counting(d), share, every=5)
    for observation in seen(env, [0, 5, 10], seed):
        silent = observation == 0
        assert silent.sum() == env.dead <= share * d + 1e-9 < env.dead + 1
        assert (observation[~silent] == np.arange(1, d + 1)[~silent]).all()


@pytest.mark.parametrize(("share", "dead"), [(0.3, 3), (0.29, 2), (0.7, 7), (0.99, 9), (0.05, 0)])
def test_of_ten_sensors(share, dead):
    env = SensorDropout(Counting(10), share)
    assert env.dead == dead
    env.reset(seed=0)
    assert (~env.alive).sum() == dead


def test_other_sensors_die_later_and_bounds_hold_the_zero():
    env = SensorDropout(Counting(20, low=1.0), 0.5, every=7)
    assert env.observation_space == spaces.Box(0, 20, (20,))
    assert len({tuple(row) for row in seen(env, range(0, 70, 7)).tolist()}) > 5
    whole = SensorDropout(Counting(20, low=1.0), 0)
    assert whole.observation_space == whole.env.observation_space


def test_the_environments_own_array_is_left_alone():
    env = Counting(4)
    env.step = lambda action: (env.features, 0.0, False, False, {})
    wrapped = SensorDropout(env, 0.5)
    wrapped.reset(seed=0)
    wrapped.step(0)
    assert env.features.tolist() == [1, 2, 3, 4]


def test_scales_follow_the_schedule_for_the_features_asked_for():
    plan = {"kind": "linear", "last": 3.0, "over": 10}
    all_of_them = seen(ObservationScaleDrift(Counting(3), plan), [0, 5, 10, 99])
    np.testing.assert_allclose(all_of_them, np.outer([1, 2, 3, 3], [1, 2, 3]))
    env = ObservationScaleDrift(Counting(3), plan, features=[2])
    assert seen(env, [0, 5]).tolist() == [[1, 2, 3], [1, 2, 6]]
    assert env.regime == (2.0,)
    assert env.observation_space == spaces.Box(np.zeros(3, np.float32), np.float32([3, 3, 9]))


def test_every_feature_walks_by_itself_and_is_told_in_the_order_asked_for():
    walk = {"kind": "random-walk", "scale": 0.2}
    env = ObservationScaleDrift(Counting(3), walk, features=[2, 0])
    (observation,) = seen(env, [50])
    np.testing.assert_allclose(observation, [env.regime[1], 2, 3 * env.regime[0]], rtol=1e-6)
    assert env.regime[0] != env.regime[1]


def test_bounds_are_scaled_by_the_extremes_with_their_sign():
    low, high = np.float32([-1, 2, -np.inf]), np.float32([1, 4, np.inf])
    env = ObservationScaleDrift(Counting(3, low, high), Step([0.5, 3.0]))
    assert env.observation_space == spaces.Box(
        np.array([-3, 1, -np.inf], np.float32), np.array([3, 12, np.inf], np.float32)
    )


def test_doubles_stay_doubles():
    for wrap in (
        lambda env: ObservationScaleDrift(env, Step([0.1])),
        lambda env: SensorDropout(env, 0.5),
        lambda env: PermuteObservation(env, every=1),
    ):
        env = wrap(Counting(2, dtype=np.float64))
        assert env.observation_space.dtype == env.reset(seed=0)[0].dtype == np.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda env: SensorDropout(env, 1), "fraction=1.0: must be a number in [0, 1)"),
        (lambda env: SensorDropout(env, -0.1), "fraction=-0.1: must be a number in [0, 1)"),
        (lambda env: SensorDropout(env, "half"), "fraction='half': must be a number in [0, 1)"),
        (lambda env: ObservationScaleDrift(env, 2.0), "schedule=2.0: must be a schedule"),
        (lambda env: ObservationScaleDrift(env, {"kind": "x"}), "schedule.kind='x': must be one"),
        (lambda env: ObservationScaleDrift(env, Step([1]), [4]), "features=[4]: must be some of 0"),
        (lambda env: ObservationScaleDrift(env, Step([1]), [0, 0]), "features=[0, 0]: must be som"),
        (
            lambda env: ObservationScaleDrift(env, Step([1]), []),
            "features=[]: must be some of 0 to",
        ),
        (lambda env: PermuteObservation(env, [0, 1]), "permutation=[0, 1]: must be 0 to 3 in some"),
        (lambda env: PermuteObservation(Counting(1), every=3), "has one feature, which has one or"),
        (lambda env: SensorDropout(gym.make("FrozenLake-v1"), 0.5), "must observe a vector of flo"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(make, message):
    with pytest.raises(InputError) as caught:
        make(Counting())
    assert message in str(caught.value) and "\n" not in str(caught.value)
