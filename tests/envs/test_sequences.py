"""Changed CartPoles and sequences of them: physics, permutations, one space for all tasks."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import CartPoleTask, PendulumTask, PermuteObservation, sequence
from envs.dynamics import ChangedCartPole
from envs.sequences import SEQUENCES

ACTIONS = [0, 1, 1, 0, 1, 1, 1, 0]


def trajectory(env, seed=3):
    observations = [env.reset(seed=seed)[0]]
    discrete = isinstance(env.action_space, gym.spaces.Discrete)
    for action in ACTIONS:
        observations.append(env.step(action if discrete else np.array([action - 0.5]))[0])
    return np.array(observations)


def test_with_the_defaults_it_is_cartpole():
    assert np.array_equal(trajectory(CartPoleTask().make()), trajectory(gym.make("CartPole-v1")))


def test_one_step_follows_the_equations_of_the_changed_physics():
    env = ChangedCartPole(length=1.5, masspole=0.5, gravity=20.0, force_mag=4.0)
    env.reset(seed=0)
    env.state = np.array([0.0, 0.1, 0.2, 0.3])
    after, *_ = env.step(1)
    # m l = 0.75 and a total mass of 1.5: theirs, not CartPole-v1's.
    temp = (4.0 + 0.75 * 0.3**2 * np.sin(0.2)) / 1.5
    angular = (20.0 * np.sin(0.2) - np.cos(0.2) * temp) / (
        1.5 * (4 / 3 - 0.5 * np.cos(0.2) ** 2 / 1.5)
    )
    linear = temp - 0.75 * angular * np.cos(0.2) / 1.5
    expected = [0.002, 0.1 + 0.02 * linear, 0.206, 0.3 + 0.02 * angular]
    np.testing.assert_allclose(after, expected, rtol=1e-6)


def test_a_permutation_changes_the_order_and_nothing_else():
    plain = trajectory(CartPoleTask().make())
    permuted = trajectory(CartPoleTask(permutation=(2, 0, 3, 1)).make())
    assert np.array_equal(permuted, plain[:, [2, 0, 3, 1]])


@pytest.mark.parametrize("name", SEQUENCES)
def test_tasks_of_a_sequence_differ_but_share_their_spaces(name):
    tasks = sequence(name)[:3]
    envs = [task.make() for task in tasks]
    assert len(set(tasks)) == len(tasks) == 3
    assert all(env.observation_space == envs[0].observation_space for env in envs)
    assert all(env.action_space == envs[0].action_space for env in envs)
    runs = [trajectory(env) for env in envs]
    assert not np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[1], runs[2])


def test_a_sequence_can_have_each_task_twice():
    assert sequence("cartpole-twice") == SEQUENCES["cartpole"] + SEQUENCES["cartpole"]


@pytest.mark.parametrize(
    ("task", "table"),
    [
        (0, {0: 0, 250: 0.5, 500: 1}),
        (1, {-500: 0, -100: 0.8, 0: 1}),
        (2, {-200: 0, -110: 0.45, -300: 0, 1: 1}),
    ],
)
def test_returns_of_other_environments_are_worth_what_the_table_says(task, table):
    task = sequence("classic-control")[task]
    assert [task.performance(earned) for earned in table] == pytest.approx(list(table.values()))
    assert np.isnan(task.performance(float("nan")))
    assert task.tuned == task.make().spec.id


OWN = [CartPoleTask(gravity=5.0), PendulumTask()]
NO_TASKS = [CartPoleTask(), "CartPole-v1"]
EMPTY = ()


def test_a_sequence_of_ones_own_is_found_by_where_it_is():
    assert sequence(f"{__name__}:OWN") == tuple(OWN)


def test_a_pendulum_with_the_defaults_is_gymnasiums():
    assert np.array_equal(trajectory(PendulumTask().make()), trajectory(gym.make("Pendulum-v1")))


def test_a_step_of_a_pendulum_follows_the_equations_of_its_physics():
    env = PendulumTask(gravity=5.0, mass=2.0, length=1.5, permutation=(2, 0, 1)).make()
    env.reset(seed=0)
    env.unwrapped.state = np.array([0.5, 0.1])
    after, *_ = env.step(np.array([1.0]))
    speed = 0.1 + 0.05 * (3 * 5.0 / (2 * 1.5) * np.sin(0.5) + 3.0 / (2.0 * 1.5**2) * 1.0)
    angle = 0.5 + 0.05 * speed
    np.testing.assert_allclose(after, [speed, np.cos(angle), np.sin(angle)], rtol=1e-6)


def test_a_pendulum_that_hangs_still_has_performance_nothing():
    env = PendulumTask().make()
    env.reset(seed=0)
    env.unwrapped.state = np.array([np.pi, 0.0])
    _, reward, *_ = env.step(np.array([0.0]))
    assert PendulumTask().performance(200 * reward) == pytest.approx(0.0, abs=1e-9)
    assert PendulumTask().performance(0.0) == 1.0
    assert PendulumTask().performance(-5_000.0) == 0.0


def test_episodes_end_after_500_steps():
    env = gym.make("ChangedCartPole-v0", length=1.0)
    assert env.spec.max_episode_steps == 500
    assert CartPoleTask().performance(500.0) == 1.0


def test_gymnasium_accepts_it():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*")
        check_env(CartPoleTask(permutation=(3, 2, 1, 0)).make(), skip_render_check=True)
    assert gym.spec("ChangedCartPole-v0").entry_point == "envs.dynamics:ChangedCartPole"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CartPoleTask(length=0.0), r"length=0\.0: must be a positive number"),
        (lambda: CartPoleTask(permutation=(0, 1, 2, 2)), r"permutation=\(0, 1, 2, 2\): must be"),
        (lambda: ChangedCartPole(gravity=-1.0), r"gravity=-1\.0: must be a positive number"),
        (lambda: PermuteObservation(gym.make("CartPole-v1"), (0, 1)), r"permutation=\(0, 1\)"),
        (lambda: PermuteObservation(gym.make("FrozenLake-v1"), (0,)), "must observe a vector"),
        (lambda: sequence("walker"), "sequence='walker': must be one of cartpole-physics"),
        (lambda: PendulumTask(mass=-1.0), r"mass=-1\.0: must be a positive number"),
        (lambda: PendulumTask(permutation=(0, 1)), r"permutation=\(0, 1\): must be 0 to 2"),
        (lambda: sequence("a b:c"), "sequence='a b:c': must be package.module:NAME of a tuple"),
        (lambda: sequence("no.where:X"), "sequence='no.where:X': there is no module 'no.where'"),
        (lambda: sequence("math:X"), "'math' .* has no 'X'; it must be a tuple of tasks"),
        (lambda: sequence("math:pi"), "is a float in 'math' .*, must be a tuple"),
        (lambda: sequence(f"{__name__}:NO_TASKS"), "must hold tasks, .*, not 'CartPole-v1'"),
        (lambda: sequence(f"{__name__}:EMPTY"), "must hold tasks, which have make"),
    ],
)
def test_wrong_input_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
