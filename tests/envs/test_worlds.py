"""Ready-made worlds: Gymnasium knows them, they live, and they are made again from their spec."""

from __future__ import annotations

import importlib.util
import re
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import pytest

import envs
from dstrl.listing import described
from dstrl.runs.build import make_env
from envs.making import EnvBuilder
from envs.worlds import WORLDS
from sparse_core import InputError
from sweeps.language.grid import parse

HERE = [w for w in WORLDS if not ("mujoco" in w.made_by or "minatar" in w.made_by)]


@pytest.mark.parametrize("world", HERE, ids=lambda world: world.id)
def test_it_lives_and_is_made_again_from_its_spec(world):
    made = gym.make(world.id)
    again = gym.make(type(made.spec).from_json(made.spec.to_json()))
    assert made.observation_space == again.observation_space
    made.action_space.seed(0)
    for env in (made, again):
        _, info = env.reset(seed=1)
        assert info["regime"]
    for _ in range(30):
        action = made.action_space.sample()
        left, right = made.step(action), again.step(action)
        assert (left[0] == right[0]).all() and left[1:] == right[1:]
        assert made.observation_space.contains(left[0])
        if left[2] or left[3]:
            assert (made.reset()[0] == again.reset()[0]).all()


def test_ids_are_in_one_namespace_and_listed():
    listed = {entry.name: entry for entry in described("envs")}
    for world in WORLDS:
        assert gym.spec(world.id).namespace == "worlds"
        assert listed[world.id].summary == world.summary
    assert len({world.id for world in WORLDS}) == len(WORLDS)
    assert {f"worlds/{name}-v0" for name in envs.sequences.SEQUENCES} <= set(listed)


def test_what_a_game_of_minatar_needs_is_said_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "minatar.gym", None)
    monkeypatch.setitem(sys.modules, "minatar", None)
    builder = EnvBuilder("worlds/minatar-breakout-v0", env_kwargs={"sticky_action_prob": 0.0})
    builder.check()
    with pytest.raises(InputError, match=r"pip install 'dstrl\[minatar\]'$"):
        builder.make()


def test_some_of_its_settings_can_be_given():
    builder = EnvBuilder("worlds/classic-control-v0", env_kwargs={"tell_task": True})
    builder.check()
    assert builder.make().observation_space.shape == (9,)
    with pytest.raises(InputError, match="TaskSequence takes tasks, every, repeat"):
        EnvBuilder("worlds/classic-control-v0", env_kwargs={"told": True}).check()


PAGE = (Path(__file__).parents[2] / "docs" / "worlds.md").read_text(encoding="utf-8")


def test_the_examples_of_the_page_do_what_they_say(capsys):
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "worlds.md", "exec"), {})
        said = re.findall(r"print\(.*\)  # (.*)", code)
        assert said and capsys.readouterr().out.splitlines()[: len(said)] == said


def test_the_grid_of_the_page_makes_its_environment():
    drifting = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
    runs = parse(drifting).runs
    assert len(runs) == 9
    _, info = make_env(runs[0].spec).reset(seed=0)
    assert set(info["regime"]) == {"PermuteObservation", "DynamicsSchedule"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(
    not (importlib.util.find_spec("mujoco") and importlib.util.find_spec("imageio")),
    reason="needs MuJoCo",
)
def test_the_slippery_ant_has_another_friction_after_two_million_steps():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = gym.make("worlds/ant-slippery-v0")
    _, info = env.reset(seed=0)
    assert info["regime"] == {"DynamicsSchedule": {"friction": 1.0}}
    _, info = env.reset(options={"clock": 2_000_000})
    assert 0.02 <= info["regime"]["DynamicsSchedule"]["friction"] != 1.0
