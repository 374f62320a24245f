"""Weights & Biases: a run of its own for each run, under the same identity.

`WANDB_MODE=offline` writes to `<runs>/tracking/wandb/wandb`, which `wandb sync` uploads later. The
project is `WANDB_PROJECT` or `dstrl`, the group is the grid.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import wandb

from sweeps.trackers.choice import Subject

STEP = "step"


class Wandb:
    """A `sweeps.trackers.choice.Tracker`."""

    def __init__(self, subject: Subject) -> None:
        online = os.environ.get("WANDB_MODE", "online") == "online"
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "dstrl"),
            group=subject.group,
            id=subject.id,
            name=subject.name,
            config=dict(subject.config),
            dir=str(subject.folder),
            resume="allow" if online else None,
            save_code=False,
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)
        self._name = subject.id

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Log numbers over an axis of their own, because curves come after what they repeat."""
        self._run.log({**numbers, STEP: step})

    def end(self, summary: Mapping[str, float], files: Sequence[Path], failed: bool) -> None:
        """Write the summary and keep the files as an artefact."""
        self._run.summary.update(dict(summary))
        artifact = wandb.Artifact(f"run-{self._name}", type="run")
        for file in files:
            artifact.add_file(str(file))
        self._run.log_artifact(artifact)
        self._run.finish(exit_code=1 if failed else 0)
