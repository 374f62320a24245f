"""`dst sweep clean`: removes the directories of runs that a grid does not name any more."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from sweeps.files import read_json
from sweeps.language import spec as specs
from sweeps.language.grid import Grid
from sweeps.store.directory import OWN_FILES, RunDir, State

LONGEST = 100


@dataclass(frozen=True)
class Left:
    """A directory of a run that the grid does not name.

    Attributes:
        folder: The directory.
        what: What the run is, in one line.
        state: Where it stands.
        size: Of its files, in bytes.
        strangers: Files in it that are none of a run's; such a directory stays.
    """

    folder: RunDir
    what: str
    state: State
    size: int
    strangers: tuple[str, ...] = ()

    @property
    def stays(self) -> str:
        """Why the directory is not removed; empty if it is."""
        if self.state is State.RUNNING:
            return "it is running"
        if self.state is State.UNREADABLE:
            return "it cannot be read"
        return f"it also holds {self.strangers[0]}" if self.strangers else ""


def clean(grid: Grid, folder: Path, agreed: bool, say: Callable[[str], None]) -> None:
    """List what the grid does not name, and remove it if the user agrees.

    Args:
        grid: The grid.
        folder: That of its runs.
        agreed: Do not ask.
        say: Told each line.
    """
    left = left_over(folder, {run.run_id for run in grid.runs})
    for one in left:
        why = f"  stays: {one.stays}" if one.stays else ""
        say(f"{one.folder.path}  {one.state.value}  {one.what}{why}")
    gone = [one for one in left if not one.stays]
    size = sum(one.size for one in gone) / 1e6
    say(f"{grid.name}: {len(gone)} directories to remove, {size:.1f} MB")
    if gone and (agreed or _agrees("Remove them? [y/N] ")):
        say(f"removed {sum(map(remove, gone))}")


def left_over(folder: Path, named: Collection[str]) -> list[Left]:
    """Return the directories of runs in a grid's folder that it does not name, by their names.

    Args:
        folder: The grid's folder.
        named: The identities of its runs.
    """
    found = []
    for path in sorted(folder.glob("*/spec.json")):
        place = path.parent
        record = read_json(path) or {}
        if place.name in named or place.is_symlink() or record.get("run_id") != place.name:
            continue
        run = RunDir(place)
        entries = {entry.name for entry in place.iterdir()} - OWN_FILES
        strangers = sorted(name for name in entries if not name.endswith(".tmp"))
        found.append(Left(run, _said(record), run.state(), _size(place), tuple(strangers)))
    return found


def remove(left: Left) -> bool:
    """Remove a directory and return whether it is gone: not if a process runs it, or it stays."""
    if left.stays:
        return False
    with left.folder.lock() as taken:
        if taken:
            shutil.rmtree(left.folder.path)
        return taken


def _agrees(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _said(record: dict[str, object]) -> str:
    spec = record.get("spec")
    fields = specs.flatten(spec) if isinstance(spec, dict) else {}
    first = ("seed", "sparse.method", "sparse.sparsity", "env", "benchmark", "steps")
    shown = [f"{name}={fields[name]}" for name in first if name in fields]
    return " ".join([str(record.get("kind")), *shown])[:LONGEST]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
