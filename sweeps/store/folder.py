"""What lies in a folder of runs, read without the file of the grid that made it.

The grid's text lies beside the runs, as it was when they were last asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparse_core.checks import InputError
from sparse_core.strict_yaml import read_yaml
from sweeps.files import write_text
from sweeps.language import kinds
from sweeps.language import spec as specs
from sweeps.language.cells import Cell
from sweeps.language.grid import Grid, Run
from sweeps.language.header import Header, read_header
from sweeps.language.kinds import Kind
from sweeps.store.directory import RunDir

GRID = "grid.yaml"


def keep_grid(folder: Path, grid: Grid) -> None:
    """Write a grid's text into the folder of its runs.

    Raises:
        OSError: If it cannot be written.
    """
    write_text(folder / GRID, grid.text)


def header(folder: Path) -> Header | None:
    """Return what the grid of a folder of runs says about itself; None: no grid lies there.

    Raises:
        InputError: If it cannot be read.
    """
    path = folder / GRID
    if not path.is_file():
        return None
    try:
        document = read_yaml(path.read_text("utf-8"))
        if not isinstance(document, Mapping):
            raise InputError("must be a mapping with 'name'")
        return read_header(document)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def directories(folder: Path) -> list[RunDir]:
    """Return the directories of the runs in a folder, by name.

    Raises:
        InputError: If it is no folder, or holds no run.
    """
    found = sorted(path.parent for path in folder.glob("*/spec.json"))
    if not found:
        what = "holds no runs" if folder.is_dir() else "must be a folder of runs"
        inner = sorted({path.parents[1].name for path in folder.glob("*/*/spec.json")})
        hint = f"; did you mean {str(folder / inner[0])!r}?" if inner else ""
        raise InputError(f"folder={str(folder)!r}: {what}{hint}", field="folder")
    return [RunDir(path) for path in found]


def records(folder: Path) -> Iterator[tuple[RunDir, Mapping[str, Any]]]:
    """Yield each run's directory and what the run is.

    Raises:
        InputError: If there is none, or it cannot be read.
    """
    for directory in directories(folder):
        yield directory, directory.record()


def runs(folder: Path) -> dict[str, RunDir]:
    """Return the directory of each run by its identity.

    Raises:
        InputError: If there is none.
    """
    return {str(record["run_id"]): directory for directory, record in records(folder)}


def as_run(record: Mapping[str, Any]) -> Run:
    """Return the run that a record describes.

    A kind that only a grid defined is known by its spec and runner alone.

    Raises:
        InputError: If what it names is not there any more, or its spec has changed.
    """
    name = str(record["kind"])
    try:
        kind = kinds.find(name)
    except InputError:
        kind = Kind(spec=record["spec_type"], runner=record["runner"])
    spec = specs.load(kinds.spec_type(kind.spec), record["spec"])
    return Run(kind, spec, str(record["run_id"]), Cell(name, spec, record.get("sources", {})))


def fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a run's spec by dotted name, with what is in force where it is known."""
    try:
        return as_run(record).shown()
    except InputError:
        return specs.flatten(record["spec"])
