"""Watch an episode of a trained run: in a window, or as an animated GIF where no screen is."""

from __future__ import annotations

import dataclasses
import errno
import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
from PIL import Image
from stable_baselines3.common.base_class import BaseAlgorithm

from dstrl.runs.build import build, make_env
from dstrl.runs.saved import MODEL, load
from dstrl.runs.spec import RLSpec
from sparse_core.checks import InputError

FASTEST = 50
"""Frames per second that viewers of GIFs show; of faster environments some are left out."""


SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")
"""Environment variables that name a screen on Linux."""


@dataclass(frozen=True)
class Episode:
    """An episode that was played.

    Attributes:
        steps: Its length.
        score: Its undiscounted return.
        task: The task that the policy acted as; None: it knows none.
    """

    steps: int
    score: float
    task: int | None = None


@dataclass(frozen=True)
class Scene:
    """What an episode is played in.

    Attributes:
        name: What errors call it, `env='...'`.
        make: Makes the environment for a render mode.
        task: The task that the policy is to act as; None: it knows none.
    """

    name: str
    make: Callable[[str | None], gym.Env[Any, Any]]
    task: int | None = None


def enjoy(spec: RLSpec, output: Path, file: Path | None, seed: int) -> list[Episode]:
    """Play one episode with the trained policy, without exploration.

    Args:
        spec: The run.
        output: The folder that `dstrl.runs.train.run` wrote the model to.
        file: The GIF to write; None: show a window.
        seed: Seeds the environment.

    Raises:
        ValueError: If there is no model, or the environment cannot be rendered so, in one line.
    """

    def make(mode: str | None) -> gym.Env[Any, Any]:
        return make_env(spec, mode)

    def make_agent() -> BaseAlgorithm:
        run = spec.resolve()
        return build(dataclasses.replace(run, hyper=little_memory(run.hyper)))

    return play([Scene(f"env={spec.env!r}", make)], make_agent, output, file, seed)


def little_memory(hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyper-parameters with little room for transitions, which acting does not need."""
    room = {"buffer_size": min(hyper["buffer_size"], 1_000)} if "buffer_size" in hyper else {}
    return {**hyper, **room}


def play(
    scenes: Sequence[Scene],
    make_agent: Callable[[], BaseAlgorithm],
    output: Path,
    file: Path | None,
    seed: int,
) -> list[Episode]:
    """Play an episode of each scene with a trained policy; see `enjoy`."""
    if file is not None and file.suffix.lower() != ".gif":
        raise InputError(f"out={str(file)!r}: must end in .gif", field="out")
    if not (output / MODEL).is_file():
        raise InputError(f"model={str(output / MODEL)!r}: there is no such file", field="model")
    mode = "human" if file is None else "rgb_array"
    for scene in scenes:
        modes = _render_modes(scene)
        if mode not in modes:
            known = ", ".join(map(str, modes)) or "no render mode at all"
            raise InputError(f"{scene.name}: cannot be rendered as {mode}, it has {known}")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in SCREENS):
        if mode == "human":
            raise InputError("human: there is no screen (DISPLAY is not set); write a GIF instead")
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    with warnings.catch_warnings(action="ignore"):  # training has said them already
        model = make_agent()
    load(model, output)
    frames: list[Image.Image] = []
    episodes: list[Episode] = []
    fps = 30.0
    for scene in scenes:
        try:
            env = scene.make(mode)
            episode, shown = _play_as(model, env, scene.task, seed, record=file is not None)
        except _failures() as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{scene.name}: cannot be rendered: {said}") from error
        episodes.append(episode)
        frames += shown
        fps = env.metadata.get("render_fps", 30)
        env.close()
    if file is not None:
        _write(file, frames, fps)
    return episodes


def _render_modes(scene: Scene) -> list[str]:
    try:
        env = scene.make(None)
    except TypeError as error:
        raise InputError(
            f"{scene.name}: cannot be shown, its make must take render_mode: {error}"
        ) from error
    env.close()
    return list(env.metadata.get("render_modes", []))


def _play_as(
    model: BaseAlgorithm, env: gym.Env[Any, Any], task: int | None, seed: int, record: bool
) -> tuple[Episode, list[Image.Image]]:
    """Play an episode; return it and, if it is to be recorded, its frames."""
    policy: Any = model.policy
    with nullcontext() if task is None else policy.task(task):
        return _play(model, env, task, seed, record)


def _play(
    model: BaseAlgorithm, env: gym.Env[Any, Any], task: int | None, seed: int, record: bool
) -> tuple[Episode, list[Image.Image]]:
    normalise = model.get_vec_normalize_env()
    stride = math.ceil(env.metadata.get("render_fps", 30) / FASTEST)
    frames = []
    observation, _ = env.reset(seed=seed)
    steps, score, over = 0, 0.0, False
    while not over:
        if record and steps % stride == 0:
            frames.append(_image(env.render()))
        seen = normalise.normalize_obs(observation) if normalise else observation
        action, _ = model.predict(seen, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        steps, score, over = steps + 1, score + float(reward), terminated or truncated
    if record:
        frames.append(_image(env.render()))
    return Episode(steps, score, task), frames


def _image(frame: Any) -> Image.Image:
    """Turn `(height, width, 3)` uint8 into an image of at most 256 colours, a third as large."""
    return Image.fromarray(frame).quantize(256, method=Image.Quantize.FASTOCTREE)


def _write(file: Path, frames: list[Image.Image], fps: float) -> None:
    milliseconds = 1000 * math.ceil(fps / FASTEST) / fps
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        frames[0].save(file, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"out={str(file)!r}: cannot be written: {error.strerror}", field="out"
        ) from error


def _failures() -> tuple[type[Exception], ...]:
    """Return what renderers raise where a library or a screen is missing."""
    mujoco = sys.modules.get("mujoco")
    fatal = getattr(mujoco, "FatalError", None)
    known = (gym.error.Error, ImportError, RuntimeError, AttributeError)
    return (*known, fatal) if fatal is not None else known
