"""`DynamicsSchedule` on MuJoCo's bodies, where MuJoCo is installed."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest

from envs import DynamicsSchedule
from sparse_core import InputError

mujoco = pytest.importorskip("mujoco")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ALL = ("mass", "friction", "gravity", "gear", "damping")


def times(*factors, every=10):
    return {"kind": "step", "factors": list(factors), "every": every}


def make(env="HalfCheetah-v5"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gym.make(env)


def life(env, steps=40):
    rng = np.random.default_rng(0)
    told = [env.reset(seed=1)[0]]
    told += [env.step(rng.uniform(-1, 1, env.action_space.shape))[0] for _ in range(steps)]
    env.reset()
    return np.array(told)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("env", ["HalfCheetah-v5", "Hopper-v5", "InvertedPendulum-v5"])
def test_factors_of_one_are_the_bare_environment_to_the_bit(env, at_once):
    names = ALL if env != "InvertedPendulum-v5" else ("mass", "gravity", "gear", "damping")
    moved = DynamicsSchedule(make(env), dict.fromkeys(names, times(1)), at_once)
    np.testing.assert_array_equal(life(moved), life(make(env)))


@pytest.mark.parametrize("name", [*ALL, "mass:torso", "friction:ffoot", "damping:bthigh"])
def test_every_parameter_changes_what_happens(name):
    moved = DynamicsSchedule(make(), {name: times(1.7)})
    assert not np.array_equal(life(moved, 100), life(make(), 100))


def test_a_model_of_twice_the_mass_is_one_that_the_compiler_would_make():
    moved = DynamicsSchedule(make(), {"mass": times(2), "mass:torso": times(0.5)})
    moved.reset(seed=0)
    came, now = make().unwrapped.model, moved.unwrapped.model
    factors = np.full(came.nbody, 2.0)
    factors[came.body("torso").id] = 1.0
    np.testing.assert_allclose(now.body_mass, came.body_mass * factors)
    np.testing.assert_allclose(now.body_inertia, came.body_inertia * factors[:, None])
    assert now.body_subtreemass[0] == pytest.approx(now.body_mass.sum())
    assert (now.dof_invweight0 < came.dof_invweight0).all()


def test_parts_are_their_own():
    moved = DynamicsSchedule(make(), {"damping:fshin": times(3), "gear:bfoot": times(2)})
    moved.reset(seed=0)
    came, now = make().unwrapped.model, moved.unwrapped.model
    expected = came.dof_damping.copy()
    expected[came.joint("fshin").dofadr[0]] *= 3
    np.testing.assert_array_equal(now.dof_damping, expected)
    gears = came.actuator_gear.copy()
    gears[came.actuator("bfoot").id] *= 2
    np.testing.assert_array_equal(now.actuator_gear, gears)


def test_the_first_observation_has_the_physics_of_its_episode_and_all_comes_back():
    moved = DynamicsSchedule(make(), {"gravity": times(1, 0.5), "mass": times(1, 3)})
    model = moved.unwrapped.model
    before = model.body_mass.copy(), model.dof_invweight0.copy(), model.opt.gravity.copy()
    for clock, gravity in [(0, -9.81), (10, -4.905), (20, -9.81)]:
        moved.reset(seed=0, options={"clock": clock})
        assert model.opt.gravity[2] == pytest.approx(gravity)
    for came, now in zip(
        before, (model.body_mass, model.dof_invweight0, model.opt.gravity), strict=True
    ):
        np.testing.assert_array_equal(came, now)


@pytest.mark.parametrize(
    ("env", "name", "message"),
    [
        (
            "HalfCheetah-v5",
            "length",
            "has no such parameter, but mass, friction, gravity, gear, da",
        ),
        ("HalfCheetah-v5", "gravity:torso", "has no such parameter, but mass, friction, gravity"),
        ("HalfCheetah-v5", "mass:wing", "has no body 'wing', but world, torso, bthigh"),
        ("Swimmer-v5", "damping", "parameters.damping: is 0 in"),
    ],
)
def test_what_a_model_lacks_is_refused_in_one_line(env, name, message):
    with pytest.raises(InputError) as caught:
        DynamicsSchedule(make(env), {name: times(2)})
    assert message in str(caught.value) and "\n" not in str(caught.value)
