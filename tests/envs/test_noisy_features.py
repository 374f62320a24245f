"""`NoisyFeatures`: size, what is left alone, seeding, and Gymnasium's own checks."""

from __future__ import annotations

import functools
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import NoisyFeatures
from envs.wrappers import noisy_size


@pytest.mark.parametrize(
    ("size", "fraction", "expected"),
    [
        (4, 0.0, 4),
        (4, 0.5, 8),
        (4, 0.9, 40),
        (3, 0.9, 30),
        (3, 0.95, 60),
        (17, 0.98, 850),
        (3, 0.3, 5),
        (1, 0.99, 100),
    ],
)
def test_the_observation_has_ceil_d_over_one_minus_fraction_features(size, fraction, expected):
    assert noisy_size(size, fraction) == expected


def test_true_features_come_first_and_the_environment_behaves_as_without_noise():
    plain = gym.make("CartPole-v1")
    noisy = NoisyFeatures(gym.make("CartPole-v1"), 0.75)
    seen, _ = plain.reset(seed=3)
    with_noise, _ = noisy.reset(seed=3)
    for action in [0, 1, 1, 0, 1, 0, 0, 1]:
        assert with_noise.shape == (16,) and with_noise.dtype == np.float32
        assert np.array_equal(with_noise[:4], seen)
        seen, *rest = plain.step(action)
        with_noise, *noisy_rest = noisy.step(action)
        assert rest == noisy_rest


def test_a_seed_fixes_the_noise_and_another_one_changes_it():
    def observe(seed):
        env = NoisyFeatures(gym.make("Pendulum-v1"), 0.9)
        first, _ = env.reset(seed=seed)
        second, *_ = env.step(np.zeros(1, dtype=np.float32))
        third, _ = env.reset()
        return np.stack([first, second, third])[:, 3:]

    assert np.array_equal(observe(5), observe(5))
    assert not np.isclose(observe(5), observe(6)).any()
    drawn = observe(5)
    assert not np.isclose(drawn[0], drawn[1]).any()
    assert not np.isclose(drawn[0], drawn[2]).any()


def test_the_noise_is_standard_normal():
    env = NoisyFeatures(gym.make("Pendulum-v1"), 0.99)
    env.reset(seed=0)
    draws = np.concatenate([env.step(np.zeros(1, np.float32))[0][3:] for _ in range(150)])
    assert draws.size == 150 * 297
    assert abs(draws.mean()) < 4 / np.sqrt(draws.size)
    assert abs(draws.std() - 1) < 4 / np.sqrt(2 * draws.size)


def test_it_passes_gymnasiums_checks():
    env = NoisyFeatures(gym.make("Pendulum-v1").unwrapped, 0.5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True)
    of_pendulum_or_of_normal_noise = (
        "symmetric and normalized space",
        "minimum value is -infinity",
        "maximum value is infinity",
        "different from the unwrapped version",
    )
    messages = [str(warning.message) for warning in caught]
    assert messages
    assert all(any(text in m for text in of_pendulum_or_of_normal_noise) for m in messages)


def test_it_is_vectorised_and_every_copy_has_noise_of_its_own():
    wrap = functools.partial(NoisyFeatures, fraction=0.5)
    envs = gym.make_vec("CartPole-v1", 3, vectorization_mode="sync", wrappers=[wrap])
    observations, _ = envs.reset(seed=1)
    assert observations.shape == (3, 8)
    assert len(np.unique(observations[:, 4:])) == 12
    again, _ = envs.reset(seed=1)
    assert np.array_equal(observations, again)


def test_it_can_be_made_again_from_its_spec():
    env = NoisyFeatures(gym.make("CartPole-v1"), fraction=0.5)
    assert env.spec is not None
    again = gym.make(env.spec)
    assert again.observation_space == env.observation_space


def test_it_can_be_pickled():
    env = NoisyFeatures(gym.make("CartPole-v1"), 0.5)
    env.reset(seed=2)
    copy = pickle.loads(pickle.dumps(env))
    assert np.array_equal(copy.step(0)[0], env.step(0)[0])


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, "half", True, float("nan")])
def test_a_bad_fraction_is_refused_in_one_line(fraction):
    with pytest.raises(ValueError, match=r"^fraction=.*: must be a number in \[0, 1\)$"):
        NoisyFeatures(gym.make("CartPole-v1"), fraction)


def test_observations_that_are_no_vectors_of_floats_are_refused():
    with pytest.raises(ValueError, match="must observe a vector of floats, not Discrete"):
        NoisyFeatures(gym.make("FrozenLake-v1"), 0.5)
