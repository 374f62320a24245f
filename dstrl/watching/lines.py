"""What an algorithm logs, as lines of JSON for trackers to follow."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import JSONOutputFormat, Logger

TRACK = "DST_TRACK"
"""Environment variable: empty if no tracker follows the run."""


@contextlib.contextmanager
def lines(model: BaseAlgorithm, folder: Path) -> Iterator[None]:
    """Write what is logged within to `folder/progress.json`, if a tracker follows the run.

    Lines that are there already are of an earlier attempt at the run. They stay, and those that
    were logged after its last checkpoint come twice.

    Args:
        model: Logs to this file alone; what it has recorded at the end is written too.
        folder: Is made if it is not there.
    """
    if not os.environ.get(TRACK):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    logger = Logger(str(folder), [_Further(folder / "progress.json")])
    model.set_logger(logger)
    try:
        yield
        logger.record("time/total_timesteps", model.num_timesteps)
        logger.dump(model.num_timesteps)
    finally:
        logger.close()


class _Further(JSONOutputFormat):
    """Writes lines behind those that a file has; one that was cut off goes."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a", encoding="utf-8")
        text = path.read_bytes()
        self.file.truncate(text.rfind(b"\n") + 1)
