"""`dst enjoy`: show what a finished run has learnt."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from sparse_core.checks import InputError
from sparse_core.imports import is_reference
from sweeps.language import kinds, sources
from sweeps.language.spec import load
from sweeps.launchers.environment import worker_environment
from sweeps.results.tables import number
from sweeps.store.directory import RunDir, State


def enjoy(
    name: str, runs_dir: Path, out: Path | None, human: bool, seed: int, console: Console
) -> None:
    """Play an episode of a run and say what it earned and where it is to be seen.

    Args:
        name: Directory of the run, or its identity below `runs_dir`.
        runs_dir: Where grids have their runs.
        out: The file to write; None: `episode.gif` in the run's output.
        human: Show a window instead.
        seed: Seeds the environment.
        console: Where to say it.

    Raises:
        InputError: If there is no such run, it is not finished, or it cannot be shown.
    """
    if seed < 0:
        raise InputError(f"seed={seed!r}: must be an integer of at least 0", field="seed")
    folder = find(name, runs_dir)
    record = folder.record()
    kind = _kind_of(record)
    if kind is None or not kind.player:
        raise InputError(f"run {name!r}: a run of kind {record.get('kind')!r} has no episodes")
    state = folder.state()
    if state is not State.DONE:
        raise InputError(f"run {name!r}: is {state.value}, only finished runs can be shown")
    file = None if human else out or folder.output / "episode.gif"
    os.environ.update(worker_environment(1, os.environ))
    spec = load(kinds.spec_type(kind.spec), record["spec"])
    for name in sources.changed(record, spec):
        _say(console, f"{name} has changed since this run was made")
    episodes = kinds.player(kind.player)(spec, folder.output, file, seed)
    lines = [
        ("" if episode.task is None else f"task {episode.task}: ")
        + f"{episode.steps} steps, return {number(episode.score)}"
        for episode in episodes
    ]
    if file is not None:
        lines = [f"{lines[0]}: {file}"] if len(lines) == 1 else [*lines, str(file)]
    for line in lines:
        _say(console, line)


def _kind_of(record: Mapping[str, Any]) -> kinds.Kind | None:
    """Return the kind that has a run's runner: one of this project, or the one that it names."""
    name, runner = record.get("kind"), record.get("runner")
    known = kinds.KINDS.values()
    own = [kinds.find(name)] if is_reference(name) else []
    return next((kind for kind in [*known, *own] if kind.runner == runner), None)


def find(name: str, runs_dir: Path) -> RunDir:
    """Return the run's directory; a finished one if several grids have the run.

    Raises:
        InputError: If there is none.
    """
    if (Path(name) / "spec.json").is_file():
        return RunDir(Path(name))
    found = [RunDir(path.parent) for path in sorted(runs_dir.glob(f"*/{name}/spec.json"))]
    if not found:
        raise InputError(f"run {name!r}: no such directory, and no run of that name in {runs_dir}")
    return next((run for run in found if run.state() is State.DONE), found[0])


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
