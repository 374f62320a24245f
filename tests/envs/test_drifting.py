"""What is true of every wrapper: equal to the bare world at rest, seeded, counted, checked."""

from __future__ import annotations

import functools
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from stable_baselines3.common.env_util import make_vec_env

from envs import (
    ActionPermutation,
    DynamicsSchedule,
    NoisyFeatures,
    ObservationScaleDrift,
    PermuteObservation,
    RewardFlip,
    SensorDropout,
)
from sparse_core import InputError

WALK = {"kind": "random-walk", "scale": 0.3, "every": 3}

AT_REST = {
    "no noise": functools.partial(NoisyFeatures, fraction=0),
    "no noise, imitated": functools.partial(NoisyFeatures, fraction=0.0, kind="empirical"),
    "no noise, copied": functools.partial(NoisyFeatures, fraction=0.0, kind="copy"),
    "order as it is": PermuteObservation,
    "no sensor dead": functools.partial(SensorDropout, fraction=0, every=2),
    "scale of one": functools.partial(
        ObservationScaleDrift, schedule={"kind": "step", "factors": [1]}, during_episodes=True
    ),
    "flat wave": functools.partial(
        ObservationScaleDrift,
        schedule={"kind": "sine", "amplitude": 0, "period": 7},
        during_episodes=True,
    ),
    "actions as they are": ActionPermutation,
    "rewards as they are": RewardFlip,
    "physics at rest": functools.partial(
        DynamicsSchedule,
        parameters={"length": {"kind": "step", "factors": [1]}},
        during_episodes=True,
    ),
}

MOVING = {
    "normal": functools.partial(NoisyFeatures, fraction=0.75),
    "empirical": functools.partial(NoisyFeatures, fraction=0.75, kind="empirical"),
    "copy": functools.partial(NoisyFeatures, fraction=0.7, kind="copy"),
    "order": functools.partial(PermuteObservation, every=3),
    "order at once": functools.partial(PermuteObservation, every=3, during_episodes=True),
    "sensors": functools.partial(SensorDropout, fraction=0.5, every=4),
    "sensors at once": functools.partial(
        SensorDropout, fraction=0.5, every=4, during_episodes=True
    ),
    "scale": functools.partial(ObservationScaleDrift, schedule=WALK),
    "some scales at once": functools.partial(
        ObservationScaleDrift, schedule=WALK, features=[3, 0], during_episodes=True
    ),
    "actions": functools.partial(ActionPermutation, every=3),
    "actions at once": functools.partial(ActionPermutation, every=3, during_episodes=True),
    "rewards": functools.partial(RewardFlip, every=5),
    "rewards at once": functools.partial(RewardFlip, every=5, during_episodes=True),
    "physics": functools.partial(DynamicsSchedule, parameters={"length": WALK, "masspole": WALK}),
    "physics at once": functools.partial(
        DynamicsSchedule, parameters={"force_mag": WALK}, during_episodes=True
    ),
}
DRIFTING = {name: wrap for name, wrap in MOVING.items() if wrap.func is not NoisyFeatures}


def life(env, steps=40, seed=3):
    """Return all that happens: observations, rewards, endings, regimes."""
    rng = np.random.default_rng(0)
    observation, info = env.reset(seed=seed)
    told = [(observation, info)]
    for _ in range(steps):
        action = int(rng.integers(env.action_space.n))
        *happened, info = env.step(action)
        told.append((*happened, info))
        if happened[2] or happened[3]:
            told.append(env.reset())
    return told


def without_regime(told):
    return [
        (*rest, {k: v for k, v in info.items() if k not in ("regime", "episode")})
        for *rest, info in told
    ]


def same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        assert left[0].dtype == right[0].dtype
        assert left[1:] == right[1:]


@pytest.mark.parametrize("wrap", AT_REST.values(), ids=AT_REST)
def test_at_rest_it_is_the_bare_environment_to_the_bit(wrap):
    bare = without_regime(life(gym.make("CartPole-v1")))
    same(without_regime(life(wrap(gym.make("CartPole-v1")))), bare)


@pytest.mark.parametrize("wrap", MOVING.values(), ids=MOVING)
def test_the_seed_decides_all(wrap):
    one, other = (life(wrap(gym.make("CartPole-v1")), seed=5) for _ in range(2))
    same(one, other)


@pytest.mark.parametrize("wrap", MOVING.values(), ids=MOVING)
def test_without_a_seed_it_follows_the_environments_own(wrap):
    def later(before):
        env = gym.make("CartPole-v1")
        env.reset(seed=before)
        env = wrap(env)
        return [env.reset()] + [env.step(1) for _ in range(8)]

    same(later(4), later(4))


@pytest.mark.parametrize("wrap", MOVING.values(), ids=MOVING)
def test_observations_and_bounds_are_exact(wrap):
    env = wrap(gym.make("CartPole-v1"))
    assert env.observation_space.dtype == np.float32
    for observation, *_ in life(env, steps=60):
        assert env.observation_space.contains(observation)


@pytest.mark.parametrize("wrap", MOVING.values(), ids=MOVING)
def test_gymnasium_and_stable_baselines_accept_it(wrap):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        allowed = "different from the unwrapped|infinity|symmetric and normalized"
        warnings.filterwarnings("ignore", message=rf"(?s).*({allowed})")
        check_env(wrap(gym.make("CartPole-v1").unwrapped), skip_render_check=True)
        check_env_for_sb3(wrap(gym.make("CartPole-v1")))


@pytest.mark.parametrize("wrap", MOVING.values(), ids=MOVING)
def test_it_is_made_again_from_its_spec_and_from_a_pickle(wrap):
    env = wrap(gym.make("CartPole-v1"))
    again = gym.make(type(env.spec).from_json(env.spec.to_json()))
    same(life(again), life(env))
    copied = pickle.loads(pickle.dumps(env))
    for _ in range(12):
        left, right = env.step(0), copied.step(0)
        same([left], [right])
        if left[2]:
            same([env.reset()], [copied.reset()])


@pytest.mark.parametrize("wrap", DRIFTING.values(), ids=DRIFTING)
def test_the_world_after_n_steps_is_the_same_however_one_got_there(wrap):
    lived, placed = (wrap(gym.make("CartPole-v1")) for _ in range(2))
    life(lived, steps=23)
    lived.reset()
    placed.reset(seed=3, options={"clock": 23})
    assert lived.clock == placed.clock == 23
    assert lived.regime == placed.regime
    placed.set_clock(0)
    placed.reset()
    fresh = wrap(gym.make("CartPole-v1"))
    fresh.reset(seed=3)
    assert placed.regime == fresh.regime


@pytest.mark.parametrize("wrap", DRIFTING.values(), ids=DRIFTING)
def test_episodes_do_not_set_the_clock_back_and_a_seed_does(wrap):
    env = wrap(gym.make("CartPole-v1"))
    told = life(env, steps=40)
    assert sum(len(one) == 2 for one in told) > 1
    assert env.clock == 40
    env.reset()
    assert env.clock == 40
    env.reset(seed=1)
    assert env.clock == 0


@pytest.mark.parametrize("wrap", DRIFTING.values(), ids=DRIFTING)
def test_it_changes_at_resets_only_unless_asked(wrap):
    env = wrap(gym.make("CartPole-v1"))
    name = wrap.func.__name__
    episodes = []
    for one in life(env, steps=60):
        if len(one) == 2:
            episodes.append([])
        episodes[-1].append(str(one[-1]["regime"][name]))
    regimes = [set(episode) for episode in episodes]
    assert len(set.union(*regimes)) > 2
    at_once = wrap.keywords.get("during_episodes", False)
    assert any(len(seen) > 1 for seen in regimes) == at_once


@pytest.mark.parametrize("wrap", DRIFTING.values(), ids=DRIFTING)
def test_vectorised_copies_have_clocks_of_their_own_and_can_be_told_the_time(wrap):
    envs = make_vec_env("CartPole-v1", 3, seed=1, wrapper_class=wrap)
    envs.reset()
    for _ in range(4):
        envs.step(np.array([0, 1, 0]))
    assert envs.get_attr("clock") == [4, 4, 4]
    envs.env_method("set_clock", 12, indices=[1])
    assert envs.get_attr("clock") == [4, 12, 4]
    _, _, _, infos = envs.step(np.array([0, 1, 0]))
    assert all(wrap.func.__name__ in info["regime"] for info in infos)
    gyms = gym.make_vec("CartPole-v1", 2, vectorization_mode="sync", wrappers=[wrap])
    _, info = gyms.reset(seed=2)
    assert wrap.func.__name__ in info["regime"]
    gyms.step(gyms.action_space.sample())
    assert gyms.get_attr("clock") == (1, 1)


def test_wrappers_around_one_another_share_the_clock_and_not_the_stream():
    inner = SensorDropout(gym.make("Acrobot-v1"), 0.5, every=10)
    outer = SensorDropout(RewardFlip(inner, every=10), 0.5, every=10)
    _, info = outer.reset(seed=0, options={"clock": 35})
    assert info["regime"] == {"SensorDropout": 3, "RewardFlip": 3, "SensorDropout2": 3}
    masks = []
    for clock in range(0, 200, 10):
        outer.set_clock(clock)
        outer.reset()
        masks.append((tuple(inner.alive), tuple(outer.alive)))
    assert any(one != other for one, other in masks)
    noises = NoisyFeatures(NoisyFeatures(gym.make("CartPole-v1"), 0.5), 0.5)
    seen, _ = noises.reset(seed=0)
    assert not np.isclose(seen[4:8], seen[8:12]).any()


@pytest.mark.parametrize("wrap", DRIFTING.values(), ids=DRIFTING)
def test_copies_of_other_seeds_live_in_one_world_if_asked(wrap):
    given = wrap(gym.make("CartPole-v1"), world=5)
    joined = NoisyFeatures(wrap(gym.make("CartPole-v1")), 0.5)
    joined.get_wrapper_attr("join_world")(5)
    given.env.reset(seed=0)
    for env, seed in ((given, 1), (joined, 2)):
        env.reset(seed=seed, options={"clock": 21})
    assert changed(given) == changed(joined)
    given.join_world(6)
    given.reset(seed=1, options={"clock": 21})
    assert changed(given) == changed(joined)


def changed(env):
    names = ("permutation", "alive", "factors", "regime")
    held = [env.get_wrapper_attr(name) for name in names if env.has_wrapper_attr(name)]
    return [np.asarray(one).tolist() for one in held]


def test_a_world_is_told_to_the_wrappers_below_and_takes_effect_at_the_next_reset():
    inner = PermuteObservation(gym.make("Acrobot-v1"), every=1)
    outer = RewardFlip(inner, every=1, during_episodes=True)
    outer.reset(seed=0, options={"clock": 5})
    before = inner.permutation.tolist()
    outer.join_world(3)
    outer.set_clock(0)
    outer.step(0)
    assert inner.permutation.tolist() == before
    outer.reset(options={"clock": 5})
    assert inner.permutation.tolist() != before


def test_what_an_environment_itself_calls_a_regime_is_kept():
    bare = gym.make("CartPole-v1").unwrapped
    step = bare.step
    bare.step = lambda action: (*step(action)[:4], {"regime": "windy"})
    env = RewardFlip(bare)
    env.reset(seed=0)
    assert env.step(0)[-1]["regime"] == {"env": "windy", "RewardFlip": 0}


def test_a_generator_that_somebody_put_there_seeds_it_and_is_not_drawn_from():
    def world():
        env = NoisyFeatures(gym.make("CartPole-v1"), 0.5)
        env.np_random = np.random.default_rng(8)
        return env, gym.make("CartPole-v1")

    env, bare = world()
    bare.unwrapped.np_random = np.random.default_rng(8)
    seen, _ = env.reset()
    np.testing.assert_array_equal(seen[:4], bare.reset()[0])
    np.testing.assert_array_equal(seen, world()[0].reset()[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda env: RewardFlip(env, every=0), "every=0: must be an integer of at least 1"),
        (lambda env: RewardFlip(env, 5, during_episodes=1), "during_episodes=1: must be true or"),
        (lambda env: RewardFlip(env).reset(options={"clock": -1}), "options.clock=-1: must be an"),
        (lambda env: RewardFlip(env, world=-1), "world=-1: must be an integer of at least 0"),
        (lambda env: RewardFlip(env).set_clock(0.5), "clock=0.5: must be an integer of at least 0"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(make, message):
    with pytest.raises(InputError) as caught:
        make(gym.make("CartPole-v1"))
    assert message in str(caught.value) and "\n" not in str(caught.value)
