"""Episodes of trained runs: what is played, what is written, what is refused."""

from __future__ import annotations

import sys
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image, ImageSequence

from dstrl.runs.enjoy import Episode, enjoy
from dstrl.runs.spec import RLSpec
from dstrl.runs.train import run
from dstrl.tasks import train
from dstrl.tasks.enjoy import enjoy_tasks
from dstrl.tasks.spec import CRLSpec
from sparse_core.config import SparseConfig


class Lamp(gym.Env):
    """Six steps, each worth 1; a picture is as bright as steps were done."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 25}

    def __init__(self, render_mode=None, fault=None):
        self.render_mode = render_mode
        self.fault = fault
        self.observation_space = spaces.Box(-1, 1, (2,), dtype=np.float32)
        self.action_space = spaces.Discrete(2)
        self.step_number = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_number = 0
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action):
        self.step_number += 1
        observation = np.full(2, self.step_number / 10, dtype=np.float32)
        return observation, 1.0, self.step_number == 6, False, {}

    def render(self):
        if self.fault is not None:
            raise self.fault
        return np.full((8, 6, 3), 40 * self.step_number, dtype=np.uint8)


class FastLamp(Lamp):
    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 100}


class WindowLamp(Lamp):
    metadata: ClassVar = {"render_modes": ["human"], "render_fps": 25}


class BlindLamp(Lamp):
    metadata: ClassVar = {"render_modes": []}


LAMPS = {
    "Lamp-v0": (Lamp, None),
    "FastLamp-v0": (FastLamp, None),
    "BlindLamp-v0": (BlindLamp, None),
    "WindowLamp-v0": (WindowLamp, None),
    "BrokenLamp-v0": (Lamp, RuntimeError("no\nscreen")),
    "NeedyLamp-v0": (Lamp, gym.error.DependencyNotInstalled("pygame is not installed")),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    for name, (lamp, fault) in LAMPS.items():
        gym.register(name, entry_point=lamp, kwargs={"fault": fault})
    out = tmp_path_factory.mktemp("run")
    run(lamp_spec("Lamp-v0"), out, lambda done, numbers: None)
    yield out
    for name in LAMPS:
        gym.registry.pop(name)


def lamp_spec(env):
    return RLSpec(
        env=env,
        steps=32,
        net_arch=(8,),
        eval_episodes=1,
        sparse=SparseConfig(sparsity=0.5),
        hyper={"n_steps": 16, "batch_size": 16, "n_epochs": 1, "normalize": True},
    )


def play(trained, env, file):
    return enjoy(lamp_spec(env), trained, file, seed=0)


def brightness(file):
    with Image.open(file) as image:
        frames = [np.asarray(frame.convert("L")).mean() for frame in ImageSequence.Iterator(image)]
        return frames, image.info["duration"]


def test_each_step_is_a_frame(trained, tmp_path):
    file = tmp_path / "deep" / "lamp.gif"
    assert play(trained, "Lamp-v0", file) == [Episode(steps=6, score=6.0)]
    frames, duration = brightness(file)
    assert np.allclose(frames, [0, 40, 80, 120, 160, 200, 240], atol=16)
    assert duration == 40


def test_fast_environments_are_shown_at_their_own_speed(trained, tmp_path):
    play(trained, "FastLamp-v0", tmp_path / "lamp.gif")
    frames, duration = brightness(tmp_path / "lamp.gif")
    assert np.allclose(frames, [0, 80, 160, 240], atol=16)
    assert duration == 20


def test_an_episode_can_be_played_again(trained, tmp_path):
    for name in ("a.gif", "b.gif"):
        play(trained, "Lamp-v0", tmp_path / name)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_distractors_are_there_too(tmp_path):
    pytest.importorskip("pygame")
    spec = RLSpec(
        steps=16,
        noise=0.5,
        net_arch=(8,),
        eval_episodes=1,
        sparse=SparseConfig(sparsity=0.5),
        hyper={"n_steps": 2, "batch_size": 16, "n_epochs": 1},
    )
    run(spec, tmp_path, lambda done, numbers: None)
    (episode,) = enjoy(spec, tmp_path, tmp_path / "cart.gif", seed=3)
    frames, _ = brightness(tmp_path / "cart.gif")
    assert episode.score == episode.steps and 1 < len(frames) <= episode.steps + 1


class LampTask:
    """Lamps as tasks in sequence."""

    tuned: ClassVar[str] = "CartPole-v1"

    def make(self, render_mode=None):
        return gym.wrappers.TimeLimit(Lamp(render_mode), 4)

    def performance(self, mean_return):
        return mean_return / 5


TASKS = (LampTask(), LampTask())


def test_one_episode_of_each_task_is_played(tmp_path):
    hyper = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
    spec = CRLSpec(
        sequence=f"{__name__}:TASKS", steps=16, eval_episodes=1, alone=False, hyper=hyper
    )
    train.run(spec, tmp_path, lambda done, numbers: None)
    assert enjoy_tasks(spec, tmp_path, tmp_path / "lamps.gif", seed=0) == [
        Episode(4, 4.0, task=0),
        Episode(4, 4.0, task=1),
    ]
    frames, duration = brightness(tmp_path / "lamps.gif")
    assert np.allclose(frames, [0, 40, 80, 120, 160] * 2, atol=16)
    assert duration == 40
    with pytest.raises(ValueError, match=r"sequence='.*:TASKS': task 0: cannot be rendered as hum"):
        enjoy_tasks(spec, tmp_path, None, seed=0)


@pytest.mark.parametrize(
    ("env", "file", "message"),
    [
        ("BlindLamp-v0", "x.gif", "env='BlindLamp-v0': cannot be rendered as rgb_array, it has no"),
        ("Lamp-v0", None, "env='Lamp-v0': cannot be rendered as human, it has rgb_array"),
        ("BrokenLamp-v0", "x.gif", "env='BrokenLamp-v0': cannot be rendered: no screen"),
        ("NeedyLamp-v0", "x.gif", "env='NeedyLamp-v0': cannot be rendered: pygame is not inst"),
        ("Lamp-v0", "x.mp4", "x.mp4': must end in .gif"),
        ("Lamp-v0", "file/x.gif", "file/x.gif': cannot be written: "),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(trained, tmp_path, env, file, message):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError) as caught:
        play(trained, env, None if file is None else tmp_path / file)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "x.gif").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there always is a screen")
def test_without_a_screen_there_is_no_window(trained, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"human: there is no screen \(DISPLAY is not set\)"):
        play(trained, "WindowLamp-v0", None)
    monkeypatch.setenv("DISPLAY", ":0")
    assert play(trained, "WindowLamp-v0", None) == [Episode(steps=6, score=6.0)]


class UnseenTask(LampTask):
    """A task that cannot be shown: its make knows no render modes."""

    def make(self):
        return gym.wrappers.TimeLimit(Lamp(None), 4)


UNSEEN = (UnseenTask(),)


def test_a_task_that_takes_no_render_mode_trains_and_is_not_shown(trained, tmp_path):
    spec = CRLSpec(sequence=f"{__name__}:UNSEEN")
    with pytest.raises(ValueError, match="task 0: cannot be shown, its make must take render_mode"):
        enjoy_tasks(spec, trained, tmp_path / "x.gif", seed=0)


def test_without_a_model_there_is_nothing_to_see(trained, tmp_path):
    with pytest.raises(ValueError, match=r"model='.*model.zip': there is no such file"):
        enjoy(RLSpec(env="Lamp-v0"), tmp_path, tmp_path / "x.gif", seed=0)
