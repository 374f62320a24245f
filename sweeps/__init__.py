"""Sweeps: grids of runs, a store that survives crashes, launchers, statistics and reports.

The driver imports neither torch nor a framework: a run's spec and runner are import strings that
only the child process, `sweeps.runs.worker`, resolves as a whole.

`load` and `curves` return the results in a folder of runs as tables of pandas.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame


def load(folder: str | os.PathLike[str]) -> DataFrame:
    """Return the runs in a folder, one a row, done or not; see `sweeps.results.frames.load`."""
    from sweeps.results import frames

    return frames.load(folder)


def curves(folder: str | os.PathLike[str]) -> DataFrame:
    """Return all curves of a folder's runs, one long table; see `sweeps.results.frames.curves`."""
    from sweeps.results import frames

    return frames.curves(folder)
