"""`NoisyFeatures`: size, what is left alone, seeding, and Gymnasium's own checks."""

from __future__ import annotations

import functools
import pickle
import statistics
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import NoisyFeatures
from envs.noise import noisy_size


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


class Marching(gym.Env):
    """Observes (t, 1000 + t, 2000 + t) at step t."""

    observation_space = gym.spaces.Box(np.float32([0, 1000, 2000]), np.float32([1000, 2000, 3000]))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observed(), {}

    def observed(self):
        return np.array([self.t, 1000 + self.t, 2000 + self.t], np.float32)

    def step(self, action):
        self.t += 1
        return self.observed(), 0.0, False, False, {}


def march(kind, steps, fraction=0.75):
    env = NoisyFeatures(Marching(), fraction, kind)
    observed = [env.reset(seed=0)[0]] + [env.step(0)[0] for _ in range(steps)]
    return env, np.array(observed)


def test_empirical_noise_has_the_values_that_its_feature_had_so_far():
    env, observed = march("empirical", 900)
    assert env.observation_space.low[3:].tolist() == [0, 1000, 2000] * 3
    feature, time = observed[:, 3:] // 1000, observed[:, 3:] % 1000
    assert (feature == [0, 1, 2] * 3).all()
    assert (time <= np.arange(901)[:, None]).all()
    relative = (time / np.arange(901)[:, None].clip(1))[100:]
    assert abs(relative.mean() - 0.5) < 4 * np.sqrt(1 / 12 / relative.size)
    assert not (time[100:, 0] == time[100:, 3]).all()


def test_a_copy_is_a_whole_observation_of_another_time_in_an_order_that_stays():
    env, observed = march("copy", 900)
    assert (env.observation_space.low[3:] == 0).all()
    assert (env.observation_space.high[3:] == 3000).all()
    feature, time = observed[:, 3:] // 1000, observed[:, 3:] % 1000
    assert (feature == feature[0]).all()
    for block in (slice(0, 3), slice(3, 6), slice(6, 9)):
        assert sorted(feature[0, block]) == [0, 1, 2]
        assert (time[:, block] == time[:, block][:, :1]).all()
    assert not (time[100:, 0] == time[100:, 3]).all()
    assert abs((time[100:, 0] < np.arange(100, 901) / 2).mean() - 0.5) < 4 * 0.5 / np.sqrt(801)


def test_the_last_copy_may_be_a_part():
    env, observed = march("copy", 5, fraction=0.4)
    assert env.distractors == 2 and observed.shape == (6, 5)
    assert len(set(observed[0, 3:] // 1000)) == 2


def test_only_the_latest_thousand_observations_are_imitated():
    env, _ = march("empirical", 0, fraction=0.99)
    for _ in range(1999):
        env.step(0)
    latest, *_ = env.step(0)
    ages = 2000 - latest[3::3]
    assert (ages >= 0).all() and (ages < 1000).all()


@pytest.mark.parametrize("kind", ["empirical", "copy"])
def test_how_many_numbers_are_drawn_at_a_time_makes_no_difference(kind, monkeypatch):
    _, several = march(kind, 1300)
    monkeypatch.setattr("envs.noise.DRAWN", 1)
    _, few = march(kind, 1300)
    np.testing.assert_array_equal(several, few)


@pytest.mark.parametrize("kind", ["white", None, 1])
def test_another_kind_is_refused(kind):
    with pytest.raises(ValueError, match=r"^kind=.*: must be one of normal, empirical, copy$"):
        NoisyFeatures(gym.make("CartPole-v1"), 0.5, kind)


def test_the_noise_of_a_seed_is_that_of_its_stream_step_by_step():
    env = NoisyFeatures(gym.make("CartPole-v1"), 0.5)
    words = np.random.PCG64(np.random.SeedSequence((11, 0x6E6F6973))).random_raw(2000)
    exact = statistics.NormalDist()
    drawn = [env.reset(seed=11)[0][4:]]
    for step in range(1500):
        observation, *_ = env.step(step % 2)
        drawn.append(observation[4:])
        if step % 9 == 8:
            drawn.append(env.reset()[0][4:])
    numbers = words.view(np.uint16).reshape(2000, 4)[: len(drawn)]
    expected = [[exact.inv_cdf((number + 0.5) / 65_536) for number in step] for step in numbers]
    np.testing.assert_allclose(drawn, expected, rtol=1e-7)
