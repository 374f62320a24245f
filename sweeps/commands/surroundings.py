"""What commands have around them: where runs and data lie, trackers, the terminal."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sparse_core.checks import InputError
from sparse_core.command import PACKAGES, ROOT
from sweeps.commands.parser import DATA

if TYPE_CHECKING:
    from rich.console import Console


def check_runs_dir(folder: Path) -> None:
    """Refuse a file in the place of the directory of runs.

    Raises:
        InputError: If it is one.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"runs_dir={str(folder)!r}: must be a directory", field="runs_dir")


def set_data(folder: Path | None) -> None:
    """Tell this process and its workers where data lies; it is not part of a run's identity."""
    if folder is not None:
        os.environ[DATA] = str(folder.absolute())
    if DATA in os.environ and not Path(os.environ[DATA]).is_dir():
        raise InputError(
            f"data={os.environ[DATA]!r}: must be a folder that exists (--data, {DATA})",
            field="data",
        )


def track(names: str, runs_dir: Path) -> None:
    """Tell this process and its workers which trackers follow runs; none is part of an identity."""
    from sweeps.trackers.choice import announce

    if names:
        announce(names, runs_dir / "tracking")


def console() -> Console:
    """Return a console that folds nothing where its output goes to a file or a pipe."""
    from rich.console import Console

    made = Console()
    return made if made.is_terminal else Console(width=200)


def say(terminal: Console, text: str) -> None:
    """Print a line as it is."""
    terminal.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show what this project's packages warn users of as a line; other warnings as they are."""
    before = warnings.formatwarning

    def shown(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        ours = any(Path(filename).is_relative_to(ROOT / name) for name in PACKAGES)
        if ours and category is UserWarning:
            return f"dst: {' '.join(str(message).split())}\n"
        return before(message, category, filename, lineno, line)

    warnings.formatwarning = shown
    try:
        yield
    finally:
        warnings.formatwarning = before
