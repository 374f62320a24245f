"""Environments by name: Gymnasium's, those of a module of one's own, their arguments, wrappers."""

from __future__ import annotations

import sys

import gymnasium as gym
import numpy as np
import pytest

from envs.making import EnvBuilder, last_part, wrapper_named
from envs.wrappers import WRAPPERS
from sparse_core.checks import InputError

TEXT = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Countdown(gym.Env):
    observation_space = spaces.Box(-1.0, 1.0, (3,), dtype=np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length=5):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.length
        return self.np_random.random(3, dtype=np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(3, dtype=np.float32), float(action), self.left == 0, False, {}


class Scaled(gym.ObservationWrapper):
    def __init__(self, env, factor):
        super().__init__(env)
        self.factor = factor

    def observation(self, observation):
        return self.factor * observation


class Unseeded(Countdown):
    def reset(self):
        return super().reset()


class Spaceless(gym.Env):
    pass


def make(length=3):
    return Countdown(length)


def nothing(env=None):
    return 5


number = 3
gym.register("Countdown-v0", entry_point=Countdown)
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "envlab.py").write_text(TEXT)
    (tmp_path / "envlab_broken.py").write_text("def f(:\n")
    yield tmp_path
    gym.registry.pop("Countdown-v0", None)
    for name in ("envlab", "envlab_broken"):
        sys.modules.pop(name, None)


def lengths(builder):
    builder.check()
    env = builder.make()
    env.reset(seed=0)
    steps = 1
    while not any(env.step(1)[2:4]):
        steps += 1
    return steps


@pytest.mark.parametrize(
    ("values", "length"),
    [
        ({"env": "envlab:Countdown"}, 5),
        ({"env": "envlab:make"}, 3),
        ({"env": "envlab:Countdown-v0"}, 5),
        ({"env": "envlab:Countdown", "env_kwargs": {"length": 7}}, 7),
        ({"env": "envlab:Countdown-v0", "env_kwargs": {"length": 7}}, 7),
        ({"env": "envlab:Countdown-v0", "env_kwargs": {"max_episode_steps": 2}}, 2),
        (
            {
                "env": "envlab:Countdown",
                "wrappers": ["gymnasium.wrappers:TimeLimit"],
                "wrapper_kwargs": {"TimeLimit": {"max_episode_steps": 4}},
            },
            4,
        ),
    ],
)
def test_what_is_named_is_made(lab, values, length):
    assert lengths(EnvBuilder(**values)) == length


def test_wrappers_wrap_from_the_inside_out(lab):
    arguments = {"Scaled": {"factor": 10}, "PermuteObservation": {"permutation": [2, 0, 1]}}
    wrappers = ("envlab:Scaled", "PermuteObservation", "NoisyFeatures")
    arguments["NoisyFeatures"] = {"fraction": 0.5}
    builder = EnvBuilder("envlab:Countdown", {}, wrappers, arguments)
    builder.check()
    env = builder.make()
    seen, _ = env.reset(seed=4)
    first, _ = EnvBuilder("envlab:Countdown").make().reset(seed=4)
    assert np.array_equal(seen[:3], 10 * first[[2, 0, 1]]) and seen.shape == (6,)
    kinds = []
    while env is not env.unwrapped:
        kinds.append(type(env).__name__)
        env = env.env
    assert kinds == ["NoisyFeatures", "PermuteObservation", "Scaled"]


def test_wrappers_of_this_project_are_known_by_their_classes():
    assert {name: wrapper_named(name) for name in WRAPPERS} == WRAPPERS
    assert [last_part(n) for n in ("NoisyFeatures", "a.b:C", "a:C.d")] == [
        "NoisyFeatures",
        "C",
        "d",
    ]


def test_physics_that_are_no_numbers_are_refused_by_the_name_of_the_argument():
    builder = EnvBuilder("ChangedCartPole-v0", {"gravity": -1})
    builder.check()
    with pytest.raises(InputError, match=r"^env_kwargs\.gravity=-1\.0: must be a positive number$"):
        builder.make()
    builder = EnvBuilder("CartPole-v1", {}, ["NoisyFeatures"], {"NoisyFeatures": {"fraction": 2}})
    with pytest.raises(InputError, match=r"^wrapper_kwargs\.NoisyFeatures\.fraction=2"):
        builder.make()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"env": "Nothing-v0"}, "env='Nothing-v0': Environment `Nothing` doesn't exist"),
        ({"env": 3}, "env=3: must be text"),
        ({"env": "envlab:Nothing-v0"}, "env='envlab:Nothing-v0': Environment `Nothing` doesn't"),
        (
            {"env": "nolab:Countdown-v0"},
            "env='nolab:Countdown-v0': there is no module 'nolab' here",
        ),
        ({"env": "nolab:Countdown"}, "env='nolab:Countdown': there is no module 'nolab' here"),
        ({"env": "envlab:number"}, "is an int in 'envlab' ("),
        ({"env": "envlab:Other"}, "has no 'Other'; it must be a class or function that returns an"),
        ({"env": "envlab_broken:A-v0"}, "envlab_broken.py) cannot be imported: SyntaxError"),
        ({"env": "envlab_broken:A"}, "envlab_broken.py) cannot be imported: SyntaxError"),
        (
            {"env": "envlab:Countdown", "env_kwargs": {"lenght": 5}},
            "env_kwargs={'lenght': 5}: got an unexpected keyword argument 'lenght'; Countdown takes"
            " length",
        ),
        (
            {"env": "CartPole-v1", "env_kwargs": {"gravity": 5}},
            "env_kwargs={'gravity': 5}: got an unexpected keyword argument 'gravity'; CartPoleEnv",
        ),
        (
            {"env": "CartPole-v1", "env_kwargs": {"render_mode": "human"}},
            "env_kwargs.render_mode='human': is left to whoever watches the run",
        ),
        (
            {"env": "CartPole-v1", "wrappers": ["Noise"]},
            "wrappers='Noise': must be one of NoisyFeatures, PermuteObservation, SensorDropout, "
            "ObservationScaleDrift, ActionPermutation, RewardFlip, DynamicsSchedule, or package.",
        ),
        ({"env": "CartPole-v1", "wrappers": "Noise"}, "wrappers='Noise': must be a list of names"),
        ({"env": "CartPole-v1", "wrappers": [1]}, "wrappers=1: must be a name"),
        (
            {"env": "CartPole-v1", "wrappers": ["envlab:number"]},
            "wrappers='envlab:number': is an int",
        ),
        (
            {"env": "CartPole-v1", "wrappers": ["NoisyFeatures"]},
            "wrapper_kwargs.NoisyFeatures={}: missing a required argument: 'fraction'; "
            "NoisyFeatures takes fraction",
        ),
        (
            {"env": "CartPole-v1", "wrapper_kwargs": {"lab": {"worlds:Scaled": {"factor": 1}}}},
            "among wrappers=[]; here each goes by the last part of its name",
        ),
        (
            {"env": "CartPole-v1", "wrapper_kwargs": {"Scaled": {"factor": 1}}},
            "wrapper_kwargs.Scaled={'factor': 1}: there is no such one among wrappers=[]",
        ),
        (
            {
                "env": "envlab:make",
                "wrappers": ["envlab:Scaled", "envlab:Scaled"],
                "wrapper_kwargs": {"Scaled": {"factor": 1}},
            },
            "wrapper_kwargs.Scaled={'factor': 1}: two wrappers have this name among",
        ),
        (
            {"env": "CartPole-v1", "wrapper_kwargs": {"Scaled": 1}},
            "wrapper_kwargs.Scaled=1: must be a mapping",
        ),
        ({"env": "CartPole-v1", "env_kwargs": [1]}, "env_kwargs=[1]: must be a mapping"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(lab, values, message):
    with pytest.raises(InputError) as caught:
        EnvBuilder(**values).check()
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"env": "envlab:nothing"},
            "env='envlab:nothing': returns int, must return a gymnasium.Env",
        ),
        (
            {"env": "envlab:Unseeded"},
            "env='envlab:Unseeded': its environment's reset must take seed",
        ),
        (
            {"env": "envlab:Spaceless"},
            "env='envlab:Spaceless': its environment has no observation_",
        ),
        (
            {"env": "envlab:make", "wrappers": ["envlab:nothing"]},
            "wrappers='envlab:nothing': returns int, must return a gymnasium.Env",
        ),
    ],
)
def test_what_makes_no_environment_is_refused_in_one_line(lab, values, message):
    builder = EnvBuilder(**values)
    builder.check()
    with pytest.raises(InputError) as caught:
        builder.make()
    assert message in str(caught.value) and "\n" not in str(caught.value)
    if "wrappers" not in values:
        with pytest.raises(InputError, match=r"must take render_mode to be shown$"):
            builder.make("rgb_array")
