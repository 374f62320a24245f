"""Stores that are not one's own, that are full or broken: they can be looked at, and stay whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps import cli
from sweeps.files import read_json, write_json, write_text
from sweeps.language.grid import load_grid
from sweeps.runs import worker
from sweeps.store.directory import RunDir, State, prepare

GridFile = Callable[[str], Path]
Here = Callable[..., tuple[int, str, str]]
TWO = "kind: toy\ngrid: {sparse.method: [dense, set]}"

pytestmark = pytest.mark.usefixtures("own_environment")


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str]) -> Here:
    """Run `dst` in this process."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        return code, *capfd.readouterr()

    return run


def a_store(grid: Path, done: int) -> list[RunDir]:
    """Prepare the runs of a grid file below `runs`, and do the first ones."""
    runs = []
    for number, run in enumerate(load_grid(str(grid)).runs):
        folder = RunDir(Path("runs/toys") / run.run_id)
        prepare(folder, run.record())
        if number < done:
            worker.execute(folder)
        else:
            (folder.path / "lock").touch()
        runs.append(folder)
    return runs


@contextlib.contextmanager
def read_only() -> Iterator[None]:
    """Let nothing be written below `runs`, as if it were a read-only file system."""
    reading, opening, removing = os.open, Path.open, Path.unlink

    def refuse(path: Path) -> None:
        if path.parts[0] == "runs":
            raise OSError(errno.EROFS, "Read-only file system", str(path))

    def os_open(path: Any, flags: int, *how: Any, **more: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            refuse(Path(path))
        return reading(path, flags, *how, **more)

    def path_open(path: Path, mode: str = "r", *how: Any, **more: Any) -> Any:
        if set(mode) & set("wax+"):
            refuse(path)
        return opening(path, mode, *how, **more)

    def unlink(path: Path, *arguments: Any, **more: Any) -> None:
        refuse(path)
        removing(path, *arguments, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "open", os_open)
        patched.setattr(Path, "open", path_open)
        patched.setattr(Path, "unlink", unlink)
        yield


def test_a_store_that_may_only_be_read_can_be_looked_at(here: Here, grid_file: GridFile) -> None:
    grid = grid_file(TWO)
    a_store(grid, done=1)
    with read_only():
        code, out, err = here("sweep", "status", grid)
    assert (code, err) == (0, "")
    assert out.endswith("toys: 2 runs: 1 pending, 0 running, 1 done, 0 failed\n")
    with read_only():
        code, out, err = here("sweep", "report", grid)
    assert code == 1 and err == "dst: 'runs/toys/report.html': Read-only file system\n"
    assert "10.0" in out and "1 of 2 runs have no result" in out


def test_a_report_on_another_store_is_written_elsewhere(here: Here, grid_file: GridFile) -> None:
    grid = grid_file(TWO)
    a_store(grid, done=2)
    code, out, err = here("sweep", "report", grid, "--out", "mine")
    assert (code, err) == (0, "") and out.endswith("report: mine/report.html\n")
    assert not Path("runs/toys/report.html").exists()
    assert {path.name for path in Path("mine").iterdir()} == {
        "report.html",
        "runs.csv",
        "table.csv",
    }


def test_a_finished_grid_on_a_read_only_store_is_shown_by_run(
    here: Here, grid_file: GridFile
) -> None:
    grid = grid_file(TWO)
    a_store(grid, done=2)
    with read_only():
        code, out, err = here("sweep", "run", grid)
    assert code == 1 and err == "dst: 'runs/toys/report.html': Read-only file system\n"
    assert "2 runs, 0 to do" in out and "10.0" in out


def spoil(folder: RunDir, how: str) -> None:
    """Make a run's directory unreadable in one of several ways."""
    if how == "a file":
        for path in folder.path.iterdir():
            path.unlink()
        folder.path.rmdir()
        folder.path.write_text("")
    else:
        (folder.path / how).unlink(missing_ok=True)
        (folder.path / how).mkdir()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("result.json", "result.json: Is a directory"),
        ("a file", "lock: Not a directory"),
        ("denied", "result.json: Permission denied"),
    ],
)
def test_a_run_that_cannot_be_read_hides_no_other(
    here: Here, grid_file: GridFile, monkeypatch: pytest.MonkeyPatch, how: str, reason: str
) -> None:
    grid = grid_file(TWO)
    _, broken = a_store(grid, done=1)
    if how == "denied":
        reading = Path.read_bytes

        def denying(path: Path) -> bytes:
            if path.parent == broken.path:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return reading(path)

        monkeypatch.setattr(Path, "read_bytes", denying)
    else:
        spoil(broken, how)
    assert broken.state() is State.UNREADABLE
    code, out, err = here("sweep", "status", grid)
    assert (code, err) == (1, "")
    assert sum(line.startswith("unreadable") and reason in line for line in out.splitlines()) == 1
    assert out.endswith("0 pending, 0 running, 1 done, 0 failed, 1 unreadable\n")
    assert here("sweep", "status", grid, "--watch")[0] == 1
    assert here("sweep", "report", grid)[0] == 0
    assert reason in Path("runs/toys/report.html").read_text()
    code, out, err = here("sweep", "run", grid)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert broken.path.name in err


@pytest.mark.parametrize("word", ["run", "status", "report"])
def test_places_that_are_none_are_named(here: Here, grid_file: GridFile, word: str) -> None:
    grid = grid_file("kind: toy")
    code, out, err = here("sweep", word, grid, "--runs-dir", grid)
    assert (code, out) == (2, "")
    assert err == f"dst: runs_dir={str(grid)!r}: must be a directory\n"
    grid.write_text(grid.read_text().replace("name: toys", f"name: {'a' * 256}"))
    code, out, err = here("sweep", word, grid)
    assert (code, out) == (2, "") and err.count("\n") == 1 and "at most 100" in err


def full(*arguments: object, **how: object) -> None:
    """Behave like a full disk, whose errors name no file."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_ends_a_sweep_in_one_line(
    here: Here, grid_file: GridFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = grid_file(TWO)
    runs = a_store(grid, done=1)
    result = read_json(runs[0].path / "result.json")
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", full)
        code, _, err = here("sweep", "run", grid)
    assert (code, err) == (1, "dst: No space left on device\n")
    assert [run.state() for run in runs] == [State.DONE, State.PENDING]
    assert read_json(runs[0].path / "result.json") == result
    assert here("sweep", "run", grid)[0] == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("sweep run", "spec.json"),
        ("sweep report", "report.html"),
        ("train rl --out x", "spec.json"),
    ],
)
def test_what_a_full_disk_refuses_is_named_and_what_was_there_is_whole(
    here: Here, grid_file: GridFile, monkeypatch: pytest.MonkeyPatch, words: str, named: str
) -> None:
    grid = grid_file("kind: toy")
    Path("runs/toys").mkdir(parents=True)
    Path("runs/toys/report.html").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    code, _, err = here(*words.split(), *([grid] if words.startswith("sweep") else []))
    assert code == 1 and err.count("\n") == 1
    assert err.startswith("dst: '") and f"{named}': No space left on device" in err
    assert Path("runs/toys/report.html").read_text() == "old"
    assert not list(Path().rglob("*.tmp"))


def test_the_first_error_is_the_one_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(Path, "unlink", lambda path, **how: (_ for _ in ()).throw(OSError(5, "no")))
    with pytest.raises(OSError, match="No space left") as caught:
        write_text(tmp_path / "x", "new")
    assert caught.value.filename == str(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "old"


@pytest.mark.parametrize(
    "change",
    [
        {"provenance": {"wall_s": 1.0, "setup_s": "x"}},
        {"provenance": {"wall_s": 1.0, "git": "dirty"}},
        {"provenance": {"wall_s": 1.0, "git": {"commit": 3, "dirty": True}}},
        {"provenance": {"wall_s": 1.0, "versions": "all"}},
        {"provenance": {"wall_s": 1.0, "cpu_s": []}},
        {"layers": [{"name": "brick", "active": "ten", "total": 100}]},
    ],
)
def test_a_result_that_was_edited_into_another_type_counts_as_none(
    here: Here, grid_file: GridFile, change: dict[str, Any]
) -> None:
    grid = grid_file("kind: toy")
    (folder,) = a_store(grid, done=1)
    result = read_json(folder.path / "result.json") or {}
    write_json(folder.path / "result.json", result | change)
    assert folder.state() is State.PENDING
    assert here("sweep", "status", grid)[0] == here("sweep", "report", grid)[0] == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("progress.json", {"done": "half", "started": None, "numbers": 3}),
        ("progress.json", {"done": None, "started": "now", "numbers": {"height": "tall"}}),
    ],
)
def test_progress_of_another_type_is_no_progress(
    here: Here, grid_file: GridFile, name: str, content: dict[str, Any]
) -> None:
    grid = grid_file("kind: toy")
    (folder,) = a_store(grid, done=0)
    (folder.path / name).write_text(json.dumps(content))
    with folder.lock():
        assert here("sweep", "status", grid)[0] == 0
