"""Actions that trade places, and rewards that change their sign."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import ActionPermutation, RewardFlip
from sparse_core import InputError


class Echo(gym.Env):
    """Keeps the action it was told, and pays 2.5."""

    observation_space = spaces.Box(-1, 1, (1,))

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.told = action
        return np.zeros(1, np.float32), 2.5, False, False, {}


def told(env, action):
    env.step(action)
    return env.unwrapped.told


def test_a_discrete_action_is_another_one_from_wherever_they_start():
    env = ActionPermutation(Echo(spaces.Discrete(3, start=5)), [2, 0, 1])
    env.reset(seed=0)
    assert [told(env, action) for action in (5, 6, 7)] == [7, 5, 6]
    assert told(env, np.int64(6)) == told(env, np.array(6)) == 5
    assert env.action_space == spaces.Discrete(3, start=5)


def test_dimensions_of_a_continuous_action_trade_places():
    env = ActionPermutation(Echo(spaces.Box(-1, 1, (3,))), [2, 0, 1])
    env.reset(seed=0)
    action = np.array([0.1, 0.2, 0.3], np.float32)
    assert told(env, action).tolist() == action[[2, 0, 1]].tolist()
    assert told(env, action).dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(1, 9), st.integers(0, 99))
def test_every_order_has_all_actions_and_differs_from_the_one_before(n, every, seed):
    env = ActionPermutation(Echo(spaces.Discrete(n)), every=every)
    env.reset(seed=seed)
    orders = []
    for clock in range(0, 10 * every, every):
        env.reset(options={"clock": clock})
        orders.append([told(env, action) for action in range(n)])
    assert orders[0] == list(range(n))
    assert all(sorted(order) == list(range(n)) for order in orders)
    assert all(one != other for one, other in itertools.pairwise(orders))


def test_what_is_no_action_is_left_to_the_environment_to_refuse():
    env = ActionPermutation(gym.make("CartPole-v1").unwrapped, every=5)
    env.reset(seed=0)
    for action in (-1, 2):
        with pytest.raises(AssertionError, match="invalid"):
            env.step(action)


def test_rewards_change_their_sign_every_so_many_steps():
    env = RewardFlip(Echo(spaces.Discrete(2)), every=3, during_episodes=True)
    env.reset(seed=0)
    rewards = [env.step(0)[1] for _ in range(10)]
    assert rewards == [2.5] * 3 + [-2.5] * 3 + [2.5] * 3 + [-2.5]


def test_an_episode_is_paid_by_one_sign():
    env = RewardFlip(Echo(spaces.Discrete(2)), every=3)
    env.reset(seed=0)
    assert [env.step(0)[1] for _ in range(5)] == [2.5] * 5
    env.reset()
    assert [env.step(0)[1] for _ in range(5)] == [-2.5] * 5


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        (spaces.Discrete(3), {"permutation": [0, 1]}, "permutation=[0, 1]: must be 0 to 2 in some"),
        (spaces.Discrete(1), {}, "must have two discrete actions or more"),
        (spaces.Box(-1, 1, (1,)), {}, "or several dimensions of one range, not Box"),
        (
            spaces.Box(np.float32([-1, -2]), np.float32([1, 1])),
            {},
            "or several dimensions of one range",
        ),
        (spaces.Box(-1, 1, (2, 2)), {}, "or several dimensions of one range"),
        (spaces.MultiBinary(3), {}, "not MultiBinary(3)"),
    ],
)
def test_what_cannot_trade_places_is_refused_in_one_line(space, settings, message):
    with pytest.raises(InputError) as caught:
        ActionPermutation(Echo(space), **settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)
