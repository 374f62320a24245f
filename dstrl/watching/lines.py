"""What an algorithm logs, as lines of JSON for trackers to follow."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure

TRACK = "DST_TRACK"
"""Environment variable: empty if no tracker follows the run."""


@contextlib.contextmanager
def lines(model: BaseAlgorithm, folder: Path) -> Iterator[None]:
    """Write what is logged within to `folder/progress.json`, if a tracker follows the run.

    Args:
        model: Logs to this file alone; what it has recorded at the end is written too.
        folder: Is made if it is not there.
    """
    if not os.environ.get(TRACK):
        yield
        return
    logger = configure(str(folder), ["json"])
    model.set_logger(logger)
    try:
        yield
        logger.record("time/total_timesteps", model.num_timesteps)
        logger.dump(model.num_timesteps)
    finally:
        logger.close()
