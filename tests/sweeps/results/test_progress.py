"""Progress, drawn from the files of runs alone."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from sweeps.language.grid import Grid
from sweeps.results import progress
from sweeps.results.progress import Board, Display, status_table, watch
from sweeps.runs import worker
from sweeps.store.directory import RunDir, State

Toys = Callable[[str], Grid]
Folders = Callable[[Grid], list[RunDir]]
GRID = "kind: toy\ngrid: {fate: [fine, raise]}\nseeds: 2"


def a_board(grid: Grid, folders: list[RunDir], slots: int | None = None) -> Board:
    return Board(
        grid.runs,
        {run.run_id: folder for run, folder in zip(grid.runs, folders, strict=True)},
        slots,
    )


def printed(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_without_a_terminal_each_run_that_ends_is_a_line(toys: Toys, folders: Folders) -> None:
    grid = toys(GRID)
    runs = folders(grid)
    worker.execute(runs[1])
    board = a_board(grid, runs)
    console = Console(file=io.StringIO(), width=40)
    with Display(board, "toys", console) as display:
        assert printed(console) == ""  # what was done before is no news
        worker.execute(runs[0])
        display.update(force=True)
        worker.execute(runs[2])
        worker.execute(runs[3])
    lines = printed(console).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("[2/4] toy tower: fine, seed 0  score 10.0  0.")
    assert "about" in lines[0] and lines[0].endswith(" left")
    assert lines[1].startswith(
        "[3/4] toy tower: raise, seed 0  FAILED: RuntimeError: the tower fell over"
    )
    assert lines[2].startswith("[4/4] toy tower: raise, seed 1  FAILED")
    assert "left" not in lines[2]


def test_on_a_terminal_a_live_table_shows_who_runs(toys: Toys, folders: Folders) -> None:
    grid = toys(GRID)
    runs = folders(grid)
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=30)
    with Display(a_board(grid, runs), "toys", console) as display, runs[1].lock():
        runs[1].begin()
        runs[1].report_progress(
            {"done": 0.25, "numbers": {"height": 3.0}, "started": time.time() - 5, "time": 0}
        )
        worker.execute(runs[0])
        display.update(force=True)
        shown = printed(console)
    assert "1/4" in shown and "1 running" in shown
    assert "toy tower: fine, seed 1" in shown and "height 3.00" in shown


def test_looks_are_not_taken_too_often(toys: Toys, folders: Folders) -> None:
    grid = toys("kind: toy")
    runs = folders(grid)
    board = a_board(grid, runs)
    display = Display(board, "toys", Console(file=io.StringIO()))
    display.update()
    worker.execute(runs[0])
    display.update()
    assert board.count(State.DONE) == 0
    display.update(force=True)
    assert board.count(State.DONE) == 1


def test_a_failed_run_that_runs_again_is_news_once_more(toys: Toys, folders: Folders) -> None:
    grid = toys("kind: toy\nbase: {fate: raise}")
    runs = folders(grid)
    board = a_board(grid, runs)
    worker.execute(runs[0])
    assert [run.state for run in board.refresh()] == [State.FAILED]
    assert board.refresh() == []
    with runs[0].lock():
        assert board.refresh() == []
        assert board.count(State.RUNNING) == 1
    assert [run.state for run in board.refresh()] == [State.FAILED]


def test_the_time_left_is_estimated_from_what_runs_took(toys: Toys, folders: Folders) -> None:
    grid = toys("kind: toy\nseeds: 5")
    runs = folders(grid)
    board = a_board(grid, runs, slots=2)
    assert board.remaining_seconds() is None
    board.runs[0].state, board.runs[0].seconds = State.DONE, 10.0
    board.runs[1].state, board.runs[1].done = State.RUNNING, 0.4
    board.runs[2].state = State.FAILED
    assert board.remaining_seconds() == pytest.approx((0.6 * 10 + 10 + 10) / 2)


def test_the_status_lists_every_run(toys: Toys, folders: Folders) -> None:
    grid = toys(GRID)
    runs = folders(grid)
    for run in runs[:3]:
        worker.execute(run)
    console = Console(file=io.StringIO(), width=120)
    console.print(status_table(a_board(grid, runs)))
    lines = printed(console).splitlines()
    assert [line.split()[0] for line in lines] == ["done", "done", "failed", "pending"]
    assert "10.0" in lines[0] and "10.5" in lines[1]
    assert "RuntimeError: the tower fell over" in lines[2]


def test_of_many_runs_those_of_a_cell_share_a_line(
    toys: Toys, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MANY", 4)
    grid = toys("kind: toy\ngrid: {fate: [fine, raise]}\nseeds: 4")
    runs = folders(grid)
    for run in (*runs[:3], *runs[4:6]):
        worker.execute(run)
    console = Console(file=io.StringIO(), width=120)
    console.print(status_table(a_board(grid, runs)))
    lines = printed(console).splitlines()
    assert [line.split()[0] for line in lines] == ["done", "pending", *["failed"] * 2, "pending"]
    assert "fine, 3 of 4 runs" in lines[0] and "median 10.5" in lines[0]
    assert "fine, 1 of 4 runs" in lines[1] and "raise, 2 of 4 runs" in lines[4]
    assert "seed 0" in lines[2] and "seed 1" in lines[3]


def test_a_directory_that_has_long_been_as_it_is_is_not_looked_at(
    toys: Toys, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = toys("kind: toy")
    (run,) = folders(grid)
    board = a_board(grid, [run])
    board.refresh()
    monkeypatch.setattr(RunDir, "look", lambda self: pytest.fail("a look"))
    with pytest.raises(pytest.fail.Exception):
        board.refresh()
    monkeypatch.setattr(progress, "SETTLED_NS", -1)
    board.refresh()
    monkeypatch.undo()
    worker.execute(run)
    assert [watched.state for watched in board.refresh()] == [State.DONE]


def test_looks_that_take_long_are_further_apart(
    toys: Toys, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = toys("kind: toy")
    display = Display(a_board(grid, folders(grid)), "toys", Console(file=io.StringIO()))
    seconds = iter([1.0, 1.1])
    monkeypatch.setattr(progress.time, "process_time", lambda: next(seconds))
    display.update()
    assert display.pause == pytest.approx(0.1 / progress.SHARE)


def test_watching_ends_when_all_runs_have_ended(toys: Toys, folders: Folders) -> None:
    grid = toys("kind: toy\nseeds: 2")
    runs = folders(grid)
    board = a_board(grid, runs)
    left = list(runs)
    console = Console(file=io.StringIO())
    with Display(board, "toys", console) as display:
        watch(display, board, sleep=lambda seconds: worker.execute(left.pop(0)) and None)
    assert board.finished and left == []
    assert len(printed(console).splitlines()) == 2


def test_shares_are_shown_in_percent(toys: Toys, folders: Folders) -> None:
    grid = toys("kind: toy")
    runs = folders(grid)
    board = a_board(grid, runs)
    board.runs[0].percent = True
    worker.execute(runs[0])
    board.refresh()
    assert board.runs[0].score == "1000.0%"
