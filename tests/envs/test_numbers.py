"""Physics, orders and seeds: from any library, kept in a spec, refused in one line."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest

from envs import CartPoleTask, NoisyFeatures, PendulumTask, PermuteObservation, sequence
from sparse_core import InputError


def test_an_environment_is_made_again_from_its_spec():
    made = PendulumTask(gravity=5.0, mass=0.5, length=1.5, permutation=np.array([2, 0, 1])).make()
    again = gym.make(type(made.spec).from_json(made.spec.to_json()))
    for env in (made, gym.make(made.spec), again):
        assert (env.unwrapped.g, env.unwrapped.m, env.unwrapped.l) == (5.0, 0.5, 1.5)
    many = gym.make_vec(made.spec, 2)
    assert [env.unwrapped.m for env in many.unwrapped.envs] == [0.5, 0.5]
    cartpole = CartPoleTask(length=np.float32(1.5)).make()
    assert gym.make(cartpole.spec).unwrapped.length == 1.5


def test_a_pendulum_with_the_usual_physics_is_the_usual_pendulum():
    one, other = PendulumTask().make(), gym.make("Pendulum-v1")
    assert one.spec.max_episode_steps == other.spec.max_episode_steps
    np.testing.assert_array_equal(one.reset(seed=3)[0], other.reset(seed=3)[0])
    for action in (np.array([1.0], np.float32), np.array([-2.0], np.float32)):
        step, same = one.step(action), other.step(action)
        np.testing.assert_array_equal(step[0], same[0])
        assert step[1] == same[1]


def test_a_diverged_return_is_no_score():
    assert math.isnan(PendulumTask().performance(math.nan))
    assert math.isnan(CartPoleTask().performance(math.nan))
    assert PendulumTask().performance(-1e9) == 0


def test_numbers_may_be_numpys():
    assert CartPoleTask(length=np.float32(1), gravity=np.int64(9)) == CartPoleTask(1.0, gravity=9.0)
    assert gym.make("ChangedCartPole-v0", length=np.int64(1)).unwrapped.length == 1.0
    env = NoisyFeatures(gym.make("CartPole-v1"), np.float32(0.5))
    assert env.observation_space.shape == (8,)


@pytest.mark.parametrize(
    "order", [None, 3, ["a", 1, 2, 3], ("a", 0, 1, 2), [0, 1, 2], [0.0, 1, 2, 3]]
)
def test_what_is_no_order_is_refused(order):
    with pytest.raises(InputError, match=r"permutation=.*: must be 0 to 3 in some order"):
        PermuteObservation(gym.make("CartPole-v1"), order)
    with pytest.raises(InputError, match=r"permutation=.*: must be 0 to 3 in some order"):
        CartPoleTask(permutation=order)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, True, "1", None])
def test_what_is_no_physics_is_refused(value):
    with pytest.raises(InputError, match=r"length=.*: must be a positive number"):
        CartPoleTask(length=value)
    with pytest.raises(InputError, match=r"mass=.*: must be a positive number"):
        PendulumTask(mass=value)


def test_a_bad_seed_is_refused_as_gymnasium_does():
    env = NoisyFeatures(gym.make("CartPole-v1"), 0.5)
    with pytest.raises(gym.error.Error, match="Seed must be greater or equal to zero"):
        env.reset(seed=-1)


def test_what_is_no_name_is_refused():
    with pytest.raises(InputError, match=r"sequence=\['cartpole'\]: must be text"):
        sequence(["cartpole"])


CLASSES = (CartPoleTask, CartPoleTask)


def test_classes_are_no_tasks():
    with pytest.raises(InputError, match=r"must hold tasks.*a class: give an instance"):
        sequence(f"{__name__}:CLASSES")
