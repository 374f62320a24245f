"""`dst sweep plan` and `clean`: what would run, how long it takes, and what may go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps import cli
from sweeps.commands.plan import conclusion, rows
from sweeps.language.grid import Grid, Run, parse
from sweeps.results.forecast import Forecast
from sweeps.store.clean import left_over, remove
from sweeps.store.directory import RunDir, State, prepare
from tests.sweeps.toys import result

Toys = Callable[[str], Grid]
Folders = Callable[[Grid], list[RunDir]]
GridFile = Callable[[str], Path]


def finish(run: Run, folder: RunDir, seconds: float) -> None:
    """Let a run be done in so many seconds."""
    identity = {key: folder.record()[key] for key in ("run_id", "kind", "spec")}
    origin = {"wall_s": seconds - 1, "setup_s": 1.0}
    folder.finish({**result(run.spec), **identity, "provenance": origin})


@pytest.mark.parametrize(
    ("other", "seconds", "guessed"),
    [
        ("kind: toy\nseeds: [7]", 20.0, False),  # the same with another seed
        ("kind: toy\nbase: {points: 9}", 20.0, True),  # of the same task and method
        ("kind: toy\nbase: {task: house}", None, None),
    ],
)
def test_times_come_from_runs_that_are_alike(
    other: str,
    seconds: float | None,
    guessed: bool | None,
    toys: Toys,
    folders: Folders,
    tmp_path: Path,
) -> None:
    grid = toys(other)
    for run, folder in zip(grid.runs, folders(grid), strict=True):
        finish(run, folder, 20.0)
    found = Forecast(tmp_path / "runs").of(toys("kind: toy\nseeds: [3]").runs[0])
    assert (found and (found.seconds, found.guessed)) == (seconds and (seconds, guessed))


@pytest.mark.parametrize(("steps", "seconds"), [(1000, 10.0), (4000, 40.0), (4001, None)])
def test_times_are_proportional_to_steps_within_reason(
    steps: int, seconds: float | None, tmp_path: Path
) -> None:
    text = "name: x\nkind: rl\nbase: {steps: %d, sparse.method: %s}"
    done = parse(text % (1000, "static")).runs[0]
    folder = RunDir(tmp_path / "x" / done.run_id)
    prepare(folder, done.record())
    identity = {key: folder.record()[key] for key in ("run_id", "kind", "spec")}
    folder.finish(
        {
            **identity,
            "score": 1.0,
            "curve": [],
            "layers": [],
            "sparsity": {"requested": 0.0, "achieved": 0.0},
            "provenance": {"wall_s": 10.0},
        }
    )
    found = Forecast(tmp_path).of(parse(text % (steps, "set")).runs[0])
    assert (found.seconds if found else None) == seconds


def test_a_plan_counts_by_cell(toys: Toys, folders: Folders, tmp_path: Path) -> None:
    grid = toys("kind: toy\ngrid: {sparse.method: [dense, set]}\nseeds: 3")
    store = tmp_path / "runs"
    directories = dict(zip([run.run_id for run in grid.runs], folders(grid), strict=True))
    cells = rows(grid, directories, store)
    assert [(row.name, row.left) for row in cells] == [
        ("toy tower: dense", 3),
        ("toy tower: set", 3),
    ]
    assert conclusion(grid, cells, 2) == [
        "toys: 6 runs in 2 cells, 6 to do",
        "time: unknown, no run like these has finished in this store",
    ]
    finish(grid.runs[0], directories[grid.runs[0].run_id], 60.0)
    directories[grid.runs[1].run_id].fail({"type": "Exit", "message": "killed"})
    cells = rows(grid, directories, store)
    assert [row.count(State.FAILED) for row in cells] == [1, 0]
    assert [row.left for row in cells] == [2, 3]
    assert conclusion(grid, cells, 2) == [
        "toys: 6 runs in 2 cells, 5 to do",
        "time: about 2:30 with 2 at a time; a guess from similar runs for 3 of them",
    ]


def test_where_nothing_is_known_the_file_is_quoted(toys: Toys, tmp_path: Path) -> None:
    grid = toys("minutes: 120\nkind: toy")
    folder = RunDir(tmp_path / "runs/toys" / grid.runs[0].run_id)
    cells = rows(grid, {grid.runs[0].run_id: folder}, tmp_path / "runs")
    assert conclusion(grid, cells, 1)[1] == (
        "time: 2 h on one core for the whole grid, its file says; no run like these has finished "
        "in this store"
    )


def test_only_whole_directories_of_other_runs_go(
    toys: Toys, folders: Folders, tmp_path: Path
) -> None:
    grid = toys("kind: toy\nseeds: 4")
    kept, gone, running, strange = folders(grid)
    (strange.path / "my_notes.txt").write_text("mine")
    for other in ("notes", "tuning"):
        (tmp_path / "runs/toys" / other).mkdir()
    (tmp_path / "runs/toys/copy").mkdir()
    (tmp_path / "runs/toys/copy/spec.json").write_text((gone.path / "spec.json").read_text())
    with running.lock():
        found = left_over(tmp_path / "runs/toys", {kept.path.name})
        assert {one.folder.path: one.stays for one in found} == {
            gone.path: "",
            running.path: "it is running",
            strange.path: "it also holds my_notes.txt",
        }
        assert [remove(one) for one in found].count(True) == 1
    assert not gone.path.exists()
    assert kept.path.exists() and running.path.exists() and strange.path.exists()
    assert (tmp_path / "runs/toys/copy/spec.json").exists()


def test_clean_asks_first(
    grid_file: GridFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    grid = str(grid_file("kind: toy\nbase: {rate: 2}"))
    assert cli.main(["sweep", "clean", grid]) == 0
    assert capsys.readouterr().out == "toys: 0 directories to remove, 0.0 MB\n"
    old = RunDir(tmp_path / "runs/toys/0123456789ab")
    old.path.mkdir(parents=True)
    (old.path / "spec.json").write_text('{"run_id": "0123456789ab", "kind": "toy", "spec": {}}')
    for answer, there in (("", True), ("n", True), ("yes", False)):
        monkeypatch.setattr("builtins.input", lambda question, said=answer: said)
        assert cli.main(["sweep", "clean", grid]) == 0
        assert old.path.exists() == there
    out = capsys.readouterr().out.splitlines()
    assert out[0].split("  ") == ["runs/toys/0123456789ab", "pending", "toy"]
    assert out[-1] == "removed 1"
    assert cli.main(["sweep", "plan", grid, "--jobs", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("time: unknown")
