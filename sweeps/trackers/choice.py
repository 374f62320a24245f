"""Which trackers there are, and what one is told."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sparse_core.checks import InputError, one_of
from sparse_core.imports import check_module, is_reference, load
from sweeps.language.hooks import takes

TRACK = "DST_TRACK"
"""Environment variable: the names of trackers, with commas between; it is part of no identity."""

FOLDER = "DST_TRACKING"
"""Environment variable: where trackers that keep files keep them."""

TRACKERS = {
    "tensorboard": (
        "sweeps.trackers.tensorboard:EventFiles",
        "tensorboard",
        "event files: tensorboard --logdir runs/tracking/tensorboard",
    ),
    "wandb": (
        "sweeps.trackers.wandb:Wandb",
        "wandb",
        "Weights & Biases; offline with WANDB_MODE=offline",
    ),
    "mlflow": (
        "sweeps.trackers.mlflow:MLflow",
        "mlflow",
        "MLflow: a local database, or the server of MLFLOW_TRACKING_URI",
    ),
}


@dataclass(frozen=True)
class Subject:
    """What is tracked.

    Attributes:
        id: The run's identity.
        name: What to call it.
        group: The grid that it belongs to.
        folder: Where the tracker may keep files, shared with other runs; it is there.
        config: The run's spec, by dotted field.
    """

    id: str
    name: str
    group: str
    folder: Path
    config: Mapping[str, Any] = field(default_factory=dict)


class Tracker(Protocol):
    """Shows one run; made of a `Subject`. Whatever it raises ends the tracking, not the run."""

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Show finite numbers by name, at a step."""
        ...

    def end(self, summary: Mapping[str, float], files: Sequence[Path], failed: bool) -> None:
        """Show what came out.

        Args:
            summary: Final numbers by name.
            files: What is worth keeping.
            failed: Whether the run has failed or was stopped.
        """
        ...


def names_of(text: str) -> list[str]:
    """Return the names in `tensorboard,wandb`, checked without importing anything.

    Raises:
        InputError: If there is no such tracker, or it is not installed.
    """
    names = list(dict.fromkeys(filter(None, (name.strip() for name in text.split(",")))))
    for name in names:
        if is_reference(name):
            check_module("track", name, name.partition(":")[0], "a tracker")
            continue
        one_of("track", name, [*TRACKERS, "package.module:NAME"])
        if importlib.util.find_spec(TRACKERS[name][1]) is None:
            raise InputError(
                f"track={name!r}: is not installed: pip install 'dstrl[{name}]'", field="track"
            )
    return names


def find(name: str) -> Callable[[Subject], Tracker]:
    """Return what makes a tracker, by its name or by `package.module:NAME`.

    Raises:
        InputError: If there is none.
    """
    reference = TRACKERS[name][0] if name in TRACKERS else name
    expected = "a class or function of a sweeps.trackers.choice.Subject"
    found: Callable[[Subject], Tracker] = load(
        "track", reference, expected, lambda found: takes(found, 1)
    )
    return found


def announce(text: str, folder: Path) -> None:
    """Tell this process and its workers which trackers there are to be.

    Args:
        text: As for `names_of`.
        folder: Where trackers may keep files.

    Raises:
        InputError: As `names_of` does.
    """
    os.environ[TRACK] = ",".join(names_of(text))
    os.environ[FOLDER] = str(folder.absolute())
