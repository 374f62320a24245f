"""`dst data`: the data sets that are there, and those that can be fetched."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sparse_core.checks import InputError, one_of
from sparse_core.imports import load
from sweeps.commands.parser import DATA

FETCHING = "continual.runs.fetching"


def show(folder: Path | None, console: Console) -> None:
    """Print a line for each data set: what it is, and whether it is there.

    Args:
        folder: The data folder; None: what DST_DATA says, or none.
        console: Where it is printed.
    """
    root = folder or (Path(os.environ[DATA]) if os.environ.get(DATA) else None)
    table = Table(box=None, pad_edge=False)
    for head in ("name", "what it is", f"in {root}" if root else f"{DATA} is not set"):
        table.add_column(head, overflow="fold")
    for row in _function("listed")(root):
        table.add_row(*row)
    console.print(table)


def get(names: Sequence[str], folder: Path | None) -> bool:
    """Fetch data sets, and return whether all are there now; what is wrong is said in a line each.

    Args:
        names: Which; all names are checked before anything is fetched.
        folder: The data folder, made if need be; None: what DST_DATA says.

    Raises:
        InputError: If one of them cannot be fetched by name, or there is no folder for them.
    """
    for name in names:
        one_of("dataset", name, _function("SOURCES"))
    root = folder or Path(os.environ.get(DATA, ""))
    if folder is None and not os.environ.get(DATA):
        raise InputError(f"data=None: say where to put them (--data DIR, or set {DATA})", "data")
    root.mkdir(parents=True, exist_ok=True)
    failed, error = [], load("data", f"{FETCHING}:FetchError", "an error")
    for name in names:
        try:
            _function("fetch")(name, root)
            print(f"{name}: in {root}")
        except error as reason:
            failed.append(name)
            print(f"dst: {reason}", file=sys.stderr)
    return not failed


def _function(name: str) -> Any:
    return load("data", f"{FETCHING}:{name}", "part of dst data")
