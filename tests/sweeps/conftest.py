"""Grids of toys, and `dst` as a command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps import cli
from sweeps.language.grid import Grid, load_grid, parse
from sweeps.store.directory import RunDir, prepare
from tests.sweeps.toys import KIND

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let child processes import the toys, wherever they start, and know of no data."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.delenv("DST_DATA", raising=False)


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in a temporary directory, and give the environment back as it was."""
    monkeypatch.chdir(tmp_path)
    for name in (*os.environ, "NUMBA_CACHE_DIR", "PYTHONFAULTHANDLER", "PYTHONUNBUFFERED"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.fixture
def toys() -> Callable[[str], Grid]:
    """Parse a grid of toys, given without its name and kinds."""
    return lambda text: parse(f"name: toys\n{KIND}\n{text}", "toys.yaml")


@pytest.fixture
def grid_file(tmp_path: Path) -> Callable[[str], Path]:
    """Write a grid of toys to a file."""

    def write(text: str) -> Path:
        path = tmp_path / "toys.yaml"
        path.write_text(f"name: toys\n{KIND}\n{text}")
        return path

    return write


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[Grid], list[RunDir]]:
    """Prepare the directories of a grid's runs."""

    def prepared(grid: Grid) -> list[RunDir]:
        found = [RunDir(tmp_path / "runs" / grid.name / run.run_id) for run in grid.runs]
        for run, folder in zip(grid.runs, found, strict=True):
            prepare(folder, run.record())
        return found

    return prepared


@pytest.fixture
def dst(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `dst` in a process of its own, in a temporary directory."""

    def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sweeps.cli", *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def runs_of(tmp_path: Path) -> Callable[[Path], list[RunDir]]:
    """Return the directories of the runs of a grid file."""

    def found(path: Path) -> list[RunDir]:
        grid = load_grid(str(path))
        return [RunDir(tmp_path / "runs" / grid.name / run.run_id) for run in grid.runs]

    return found


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `dst` in this process, in a temporary directory."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        return code, *capfd.readouterr()

    return run
