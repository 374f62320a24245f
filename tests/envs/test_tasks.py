"""Several environments as one: spaces, turns, and evaluation of one task and of all."""

from __future__ import annotations

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from stable_baselines3.common.env_util import make_vec_env

from envs import CartPoleTask, TaskSequence
from envs.evaluation import evaluate
from sparse_core import InputError


class Reporting(gym.Env):
    """Observes ones, does nothing for three steps, and keeps what it was told."""

    def __init__(self, observed=2, actions=None, reward=1.0, render_mode=None):
        self.observation_space = spaces.Box(-1, 1, (observed,))
        self.action_space = spaces.Discrete(2) if actions is None else actions
        self.reward = reward
        self.told = []
        self.seeds = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.left, self.options = 3, options
        return np.ones(self.observation_space.shape, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.told.append(action)
        self.left -= 1
        observed = np.ones(self.observation_space.shape, np.float32)
        return observed, self.reward, self.left == 0, False, {}


class Made:
    """A task that makes an environment."""

    tuned = "CartPole-v1"

    def __init__(self, **settings):
        self.settings = settings

    def make(self, render_mode=None):
        return Reporting(**self.settings)

    def performance(self, mean_return):
        return mean_return


def several(n=3, **settings):
    return TaskSequence([Made(reward=float(number)) for number in range(n)], **settings)


def turns(env, episodes, seed=0):
    """Return the tasks of so many episodes, of three steps each."""
    told = []
    _, info = env.reset(seed=seed)
    for _ in range(episodes):
        told.append(info["regime"]["TaskSequence"])
        assert env.task == told[-1]
        over = False
        while not over:
            _, _, over, _, info = env.step(0)
            assert info["regime"]["TaskSequence"] == told[-1]
        _, info = env.reset()
    return told


def test_observations_are_padded_and_bounds_are_the_loosest():
    env = TaskSequence(["CartPole-v1", "Acrobot-v1", "MountainCar-v0"])
    own = [gym.make(name) for name in ("CartPole-v1", "Acrobot-v1", "MountainCar-v0")]
    assert env.observation_space.shape == (6,) and env.observation_space.dtype == np.float32
    highs = [
        np.pad(one.observation_space.high, (0, 6 - one.observation_space.shape[0])) for one in own
    ]
    np.testing.assert_array_equal(env.observation_space.high, np.max(highs, axis=0))
    for task, bare in enumerate(own):
        observation, _ = env.reset(seed=4, options={"task": task})
        seen, _ = bare.reset(seed=4)
        np.testing.assert_array_equal(observation, np.pad(seen, (0, 6 - seen.size)))
        assert env.observation_space.contains(observation)


def test_more_discrete_actions_than_a_task_has_are_taken_by_the_remainder():
    few, many = Made(actions=spaces.Discrete(2, start=5)), Made(actions=spaces.Discrete(3))
    env = TaskSequence([few, many])
    assert env.action_space == spaces.Discrete(3)
    for task, expected in [(0, [5, 6, 5]), (1, [0, 1, 2])]:
        env.reset(options={"task": task})
        for action in range(3):
            env.step(np.int64(action))
        assert env._envs[task].unwrapped.told == expected


def test_continuous_actions_are_stretched_to_a_tasks_own_range_and_number():
    one = Made(actions=spaces.Box(-2, 2, (1,)))
    two = Made(actions=spaces.Box(np.float32([0, -1]), np.float32([10, 1])))
    env = TaskSequence([one, two])
    assert env.action_space == spaces.Box(-1, 1, (2,))
    for task, expected in [(0, [1.0]), (1, [7.5, -1.0])]:
        env.reset(options={"task": task})
        env.step(np.float32([0.5, -1.0]))
        np.testing.assert_allclose(env._envs[task].unwrapped.told[0], expected)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_a_sequence_of_one_is_that_environment_to_the_bit(name):
    env, bare = TaskSequence([name], every=7), gym.make(name)
    assert env.observation_space == bare.observation_space
    assert env.action_space == bare.action_space
    rng = np.random.default_rng(0)
    happened = [(env.reset(seed=3)[0], bare.reset(seed=3)[0])]
    for _ in range(80):
        discrete = isinstance(bare.action_space, spaces.Discrete)
        action = int(rng.integers(2)) if discrete else rng.uniform(-2, 2, 1).astype(np.float32)
        (left, *ours, _), (right, *theirs, _) = env.step(action), bare.step(action)
        assert ours == theirs
        happened.append((left, right))
        if ours[1] or ours[2]:
            happened.append((env.reset()[0], bare.reset()[0]))
    for left, right in happened:
        np.testing.assert_array_equal(left, right)


def test_tasks_take_turns_by_steps_by_episodes_or_stay_with_the_last():
    assert turns(several(every=6), 8) == [0, 0, 1, 1, 2, 2, 0, 0]
    assert turns(several(every=4), 6) == [0, 0, 1, 2, 0, 0]
    assert turns(several(), 5) == [0, 1, 2, 0, 1]
    assert turns(several(every=3, repeat=False), 5) == [0, 1, 2, 2, 2]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.sampled_from([None, 3, 7]), st.integers(0, 99))
def test_drawn_tasks_follow_from_the_seed_and_the_turn(n, every, seed):
    env = several(n, every=every, shuffled=True)
    told = turns(env, 12, seed)
    assert told == turns(env, 12, seed) == turns(several(n, every=every, shuffled=True), 12, seed)
    assert set(told) <= set(range(n))


def test_drawn_tasks_are_as_likely_as_any():
    told = np.array(turns(several(4, shuffled=True), 2000))
    counts = np.bincount(told, minlength=4)
    assert (abs(counts - 500) < 4 * np.sqrt(2000 * 0.25 * 0.75)).all()


def test_one_can_stay_with_a_task_and_go_to_another_time():
    env = several(every=6)
    env.set_task(2)
    assert turns(env, 3) == [2, 2, 2]
    env.set_task(None)
    assert turns(env, 3) == [0, 0, 1]
    env.set_clock(13)
    env.reset()
    assert env.task == 2
    env.reset(seed=0, options={"clock": 6})
    assert (env.task, env.clock) == (1, 6)
    env.reset(options={"task": 0, "low": 1})
    assert env.task == 0 and env._envs[0].unwrapped.options == {"low": 1}
    env.reset()
    assert env.task == 1


def test_a_seed_is_that_of_each_task_at_its_first_episode():
    env = several(2, every=3)
    turns(env, 4, seed=9)
    assert [one.unwrapped.seeds for one in env._envs] == [[9, None, None], [9, None]]


def test_the_task_can_be_told():
    env = several(3, tell_task=True)
    assert env.observation_space.shape == (5,)
    env.reset(seed=0, options={"task": 1})
    observation, *_ = env.step(0)
    assert observation.tolist() == [1, 1, 0, 1, 0] and observation.dtype == np.float32
    assert env.observation_space.contains(observation)


def test_tasks_are_named_in_any_way():
    noisy = {
        "env": "CartPole-v1",
        "wrappers": ["NoisyFeatures"],
        "wrapper_kwargs": {"NoisyFeatures": {"fraction": 0.5}},
    }
    env = TaskSequence(["CartPole-v1", f"{__name__}:Reporting", noisy, CartPoleTask(length=1.0)])
    assert env.observation_space.shape == (8,)
    assert len(env) == 4
    assert len(TaskSequence("cartpole-twice")) == 6


def test_tasks_that_drift_can_be_put_into_one_world():
    drifting = {
        "env": "CartPole-v1",
        "wrappers": ["PermuteObservation"],
        "wrapper_kwargs": {"PermuteObservation": {"every": 5}},
    }
    orders = []
    for seed in (1, 2):
        env = TaskSequence([drifting, "CartPole-v1"])
        env.join_world(7)
        env.reset(seed=seed, options={"task": 0})
        env._envs[0].get_wrapper_attr("set_clock")(40)
        _, info = env.reset(options={"task": 0})
        assert info["regime"] == {"PermuteObservation": 8, "TaskSequence": 0}
        orders.append(env._envs[0].get_wrapper_attr("permutation").tolist())
    assert orders[0] == orders[1] != [0, 1, 2, 3]


def test_it_says_what_changes_at_a_stroke_in_its_tasks_too():
    steps = {"kind": "step", "factors": [1, 2], "every": 5}
    wave = {"kind": "sine", "amplitude": 0.5, "period": 8}
    drifting = {
        "env": "CartPole-v1",
        "wrappers": ["SensorDropout", "ObservationScaleDrift", "DynamicsSchedule", "RewardFlip"],
        "wrapper_kwargs": {
            "SensorDropout": {"fraction": 0.5},
            "ObservationScaleDrift": {"schedule": wave},
            "DynamicsSchedule": {"parameters": {"length": steps, "gravity": wave}},
        },
    }
    assert TaskSequence(["Acrobot-v1", drifting]).jumping() == {
        ("TaskSequence",),
        ("SensorDropout",),
        ("DynamicsSchedule", "length"),
        ("RewardFlip",),
    }


def test_gymnasium_and_stable_baselines_accept_it_and_it_is_vectorised():
    tasks = ["CartPole-v1", "Acrobot-v1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(TaskSequence(tasks, tell_task=True), skip_render_check=True)
        check_env_for_sb3(TaskSequence(tasks))
    envs = make_vec_env(lambda: TaskSequence(tasks), 2, seed=0)
    envs.env_method("set_task", 1)
    envs.reset()
    assert envs.get_attr("task") == [1, 1]
    _, _, _, infos = envs.step(np.array([0, 2]))
    assert [info["regime"]["TaskSequence"] for info in infos] == [1, 1]


def test_evaluation_of_one_task_and_of_all():
    env = several(3, every=6)
    env.reset(seed=0)
    asked = []
    found = evaluate(lambda observed: asked.append(observed) or 0, env, episodes=2)
    assert found.returns == {0: (0.0, 0.0), 1: (3.0, 3.0), 2: (6.0, 6.0)}
    assert [found.single(task) for task in range(3)] == [0, 3, 6]
    assert found.multi == 3
    assert len(asked) == 18
    assert evaluate(lambda observed: 0, env, 1, tasks=[2]).returns == {2: (6.0,)}
    assert (env.clock, env.task) == (0, 0)
    assert all(one.unwrapped.told == [] for one in env._envs)


def test_evaluation_of_a_task_is_that_of_its_environment():
    env = TaskSequence(["CartPole-v1", "Acrobot-v1"])
    found = evaluate(lambda observed: 1, env, episodes=3, seed=5, tasks=[0])
    bare, returns = gym.make("CartPole-v1"), []
    for episode in range(3):
        bare.reset(seed=5 if episode == 0 else None)
        steps, over = 0, False
        while not over:
            _, _, over, _, _ = bare.step(1)
            steps += 1
        returns.append(steps)
    assert found.returns == {0: tuple(returns)}


MIXED = "tasks: their actions cannot be reconciled, they must be equal, all discrete or all bounded"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TaskSequence(["CartPole-v1", "Pendulum-v1"]), MIXED),
        (lambda: TaskSequence([Made(), Made(actions=spaces.Box(-np.inf, np.inf, (1,)))]), MIXED),
        (lambda: TaskSequence([Made(), Made(actions=spaces.MultiBinary(2))]), MIXED),
        (lambda: TaskSequence(["FrozenLake-v1"]), "must observe a vector of floats, not Discrete"),
        (lambda: TaskSequence("walker"), "sequence='walker': must be one of cartpole-physics"),
        (lambda: TaskSequence([]), "tasks=[]: must be the name of a sequence or a list of tasks"),
        (lambda: TaskSequence(["Nowhere-v0"]), "tasks.0.env='Nowhere-v0'"),
        (lambda: TaskSequence([3]), "tasks.0=3: must be an environment's id, a task, or a mapping"),
        (lambda: TaskSequence([{"env": "CartPole-v1", "x": 1}]), "tasks.0={'env': 'CartPole-v1',"),
        (lambda: several(every=0), "every=0: must be an integer of at least 1"),
        (lambda: several(shuffled="yes"), "shuffled='yes': must be one of False, True"),
        (lambda: several().set_task(3), "task=3: must be 0 to 2"),
        (
            lambda: several().reset(options={"task": -1}),
            "options.task=-1: must be an integer of at",
        ),
        (lambda: evaluate(lambda o: 0, several(), 0), "episodes=0: must be an integer of at least"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)
