"""`DynamicsSchedule`: what changes, what follows, what stays, and what an environment lacks."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import DynamicsSchedule
from envs.dynamics import ChangedCartPole, ChangedPendulum
from sparse_core import InputError

BARE = {
    "CartPole-v1": ("gravity", "masscart", "masspole", "length", "force_mag"),
    "Pendulum-v1": ("gravity", "mass", "length"),
    "Acrobot-v1": ("mass_1", "mass_2", "length_1", "length_2", "inertia", "torque"),
    "MountainCar-v0": ("force", "gravity"),
    "MountainCarContinuous-v0": ("power",),
}


def times(*factors, every=10):
    return {"kind": "step", "factors": list(factors), "every": every}


def life(env, steps=120, seed=2):
    rng = np.random.default_rng(1)
    told = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        space = env.action_space
        discrete = isinstance(space, spaces.Discrete)
        action = int(rng.integers(space.n)) if discrete else rng.uniform(-1, 1, 1)
        observation, reward, terminated, truncated, _ = env.step(action)
        told += [observation, np.array([reward, terminated, truncated])]
        if terminated or truncated:
            told.append(env.reset()[0])
    return np.concatenate(told)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("env", BARE)
def test_factors_of_one_are_the_bare_environment_to_the_bit(env, at_once):
    rest = dict.fromkeys(BARE[env], times(1))
    moved = DynamicsSchedule(gym.make(env), rest, during_episodes=at_once)
    np.testing.assert_array_equal(life(moved), life(gym.make(env)))


@pytest.mark.parametrize(("env", "name"), [(env, name) for env in BARE for name in BARE[env]])
def test_every_parameter_changes_what_happens(env, name):
    moved = DynamicsSchedule(gym.make(env), {name: times(1.5)})
    assert not np.array_equal(life(moved), life(gym.make(env)))


@settings(max_examples=25, deadline=None)
@given(*[st.floats(0.3, 3) for _ in range(4)])
def test_cartpole_is_the_one_made_with_these_physics(length, masspole, gravity, force_mag):
    values = {"length": length, "masspole": masspole, "gravity": gravity, "force_mag": force_mag}
    came = {"length": 0.5, "masspole": 0.1, "gravity": 9.8, "force_mag": 10.0}
    made = ChangedCartPole(**{name: came[name] * factor for name, factor in values.items()})
    moved = DynamicsSchedule(
        ChangedCartPole(), {name: times(factor) for name, factor in values.items()}
    )
    np.testing.assert_array_equal(life(moved, 30), life(made, 30))


@settings(max_examples=25, deadline=None)
@given(*[st.floats(0.3, 3) for _ in range(3)])
def test_a_pendulum_is_the_one_made_with_these_physics(gravity, mass, length):
    made = ChangedPendulum(10.0 * gravity, mass, length)
    plans = {"gravity": times(gravity), "mass": times(mass), "length": times(length)}
    np.testing.assert_array_equal(
        life(DynamicsSchedule(ChangedPendulum(), plans), 30), life(made, 30)
    )


def test_what_follows_from_a_parameter_is_computed_anew_each_time():
    env = DynamicsSchedule(gym.make("CartPole-v1"), {"masspole": times(1, 5), "length": times(2)})
    bare = env.unwrapped
    for clock, masspole in [(0, 0.1), (10, 0.5), (20, 0.1)]:
        env.reset(seed=0, options={"clock": clock})
        assert bare.masspole == masspole and bare.length == 1.0
        assert bare.total_mass == masspole + 1.0
        assert bare.polemass_length == masspole * 1.0


def test_factors_are_of_what_the_environment_came_with():
    env = DynamicsSchedule(ChangedCartPole(gravity=20.0), {"gravity": times(0.5, 2)})
    gravities = []
    for clock in (0, 10, 0):
        env.reset(seed=0, options={"clock": clock})
        gravities.append(env.unwrapped.gravity)
    assert gravities == [10.0, 40.0, 10.0]


def test_acrobots_centre_of_mass_goes_with_its_link():
    env = DynamicsSchedule(
        gym.make("Acrobot-v1"), {"length_2": times(3), "torque": times(2)}
    ).unwrapped
    moved = DynamicsSchedule(env, {"length_1": times(3), "torque": times(2)})
    moved.reset(seed=0)
    assert (env.LINK_LENGTH_1, env.LINK_COM_POS_1) == (3.0, 1.5)
    assert (env.LINK_LENGTH_2, env.LINK_COM_POS_2) == (1.0, 0.5)
    assert env.AVAIL_TORQUE == [-2.0, 0.0, 2.0]
    assert gym.make("Acrobot-v1").unwrapped.AVAIL_TORQUE == [-1.0, 0.0, 1.0]


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 1), st.integers(1, 8), st.integers(0, 99), st.booleans())
def test_walks_stay_in_bounds_and_the_regime_tells_them(scale, every, seed, at_once):
    walk = {"kind": "random-walk", "scale": scale, "every": every, "low": 0.8, "high": 1.1}
    env = DynamicsSchedule(gym.make("MountainCar-v0"), {"force": walk, "gravity": walk}, at_once)
    _, info = env.reset(seed=seed)
    for _ in range(40):
        regime = info["regime"]["DynamicsSchedule"]
        assert set(regime) == {"force", "gravity"}
        assert all(0.8 <= factor <= 1.1 for factor in regime.values())
        assert env.unwrapped.force == 0.001 * regime["force"]
        *_, info = env.step(1)
    env.reset()
    assert env.regime["force"] != env.regime["gravity"]


class Own(gym.Env):
    observation_space = spaces.Box(-1, 1, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.wind, self.ready, self.still = 3, True, 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}


def test_an_environment_of_ones_own_has_the_numbers_among_its_attributes():
    env = DynamicsSchedule(Own(), {"wind": times(0.5)})
    env.reset(seed=0)
    assert env.unwrapped.wind == 1.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DynamicsSchedule(gym.make("CartPole-v1"), {"wind": times(2)}),
            "parameters.wind: <CartPoleEnv<CartPole-v1>> has no such parameter, but gravity, mass",
        ),
        (
            lambda: DynamicsSchedule(gym.make("MountainCarContinuous-v0"), {"gravity": times(2)}),
            "has no such parameter, but power",
        ),
        (
            lambda: DynamicsSchedule(Own(), {"ready": times(2)}),
            "no such parameter, but wind, still",
        ),
        (lambda: DynamicsSchedule(Own(), {"still": times(2)}), "parameters.still: is 0 in <Own"),
        (lambda: DynamicsSchedule(Own(), {}), "parameters={}: must be a mapping of names to"),
        (lambda: DynamicsSchedule(Own(), ["wind"]), "parameters=['wind']: must be a mapping of"),
        (lambda: DynamicsSchedule(Own(), {"wind": 2}), "parameters.wind=2: must be a schedule"),
        (
            lambda: DynamicsSchedule(Own(), {"wind": times(-2)}),
            "parameters.wind.factors=-2.0: must be a positive number",
        ),
    ],
)
def test_wrong_settings_are_refused_in_one_line(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)
