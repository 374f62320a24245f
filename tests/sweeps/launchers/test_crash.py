"""The driver is killed at random moments: nothing is lost and nothing runs twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sweeps.store.directory import RunDir

GridFile = Callable[[str], Path]
RunsOf = Callable[[Path], list[RunDir]]


def drive(tmp_path: Path, grid: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start a driver that Ctrl-C interrupts, also where these tests run in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps.cli", "sweep", "run", str(grid), "--jobs", "2", *options],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_a_driver_killed_again_and_again_finishes_each_run_once(
    tmp_path: Path, grid_file: GridFile, runs_of: RunsOf
) -> None:
    grid = grid_file("kind: toy\nbase: {seconds: 0.25}\nseeds: 10")
    runs = runs_of(grid)
    moments = random.Random(0)
    kept: dict[Path, tuple[int, bytes]] = {}
    for _ in range(4):
        driver = drive(tmp_path, grid)
        time.sleep(0.4 + moments.random())
        driver.kill()
        driver.communicate()
        for run in runs:
            path = run.path / "result.json"
            if path.exists():
                found = (path.stat().st_mtime_ns, path.read_bytes())
                assert kept.setdefault(path, found) == found
    last = drive(tmp_path, grid)
    _, errors = last.communicate(timeout=60)
    assert (last.returncode, errors) == (0, b"")
    assert all(run.result() is not None for run in runs)
    assert [run.attempts() for run in runs] == [1] * 10
    for path, (when, content) in kept.items():
        assert (path.stat().st_mtime_ns, path.read_bytes()) == (when, content)
    assert list(tmp_path.rglob("*.tmp")) == []
    assert "10 of 10 runs have a result" in (tmp_path / "runs/toys/report.html").read_text()


def test_two_drivers_at_once_share_the_work_and_both_report_all_of_it(
    tmp_path: Path, grid_file: GridFile, runs_of: RunsOf
) -> None:
    grid = grid_file("kind: toy\nbase: {seconds: 0.2}\nseeds: 5")
    drivers = [drive(tmp_path, grid) for _ in range(2)]
    for driver in drivers:
        _, errors = driver.communicate(timeout=60)
        assert (driver.returncode, errors) == (0, b"")
    assert [run.attempts() for run in runs_of(grid)] == [1] * 5


def test_ctrl_c_stops_the_sweep_and_the_same_command_goes_on(
    tmp_path: Path, grid_file: GridFile, runs_of: RunsOf
) -> None:
    grid = grid_file("kind: toy\nbase: {seconds: 0.5}\nseeds: 8")
    runs = runs_of(grid)
    driver = drive(tmp_path, grid)
    deadline = time.monotonic() + 20
    while not any(run.running() for run in runs):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=20)
    assert driver.returncode == 130
    assert errors.decode() == "dst: interrupted; the same command goes on with what is left\n"
    assert not any(run.running() for run in runs)
    again = drive(tmp_path, grid)
    again.communicate(timeout=60)
    assert again.returncode == 0
    assert all(run.result() is not None for run in runs)
