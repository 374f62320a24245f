"""Watch a policy that has learnt a sequence of tasks: an episode of each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from dstrl.runs.enjoy import Episode, Scene, little_memory, play
from dstrl.tasks.spec import CRLSpec
from dstrl.tasks.train import make_model


def enjoy_tasks(spec: CRLSpec, output: Path, file: Path | None, seed: int) -> list[Episode]:
    """Play one episode of each task of a sequence, in its order, as `enjoy` does.

    Raises:
        ValueError: As `enjoy`.
    """
    tasks = enumerate(spec.tasks)
    name = f"sequence={spec.sequence!r}"
    scenes = [Scene(f"{name}: task {label}", task.make, label) for label, task in tasks]

    def make_agent() -> BaseAlgorithm:
        run = spec.resolve()
        return make_model(dataclasses.replace(run, hyper=little_memory(run.hyper)))

    return play(scenes, make_agent, output, file, seed)
