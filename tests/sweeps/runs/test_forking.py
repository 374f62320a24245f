"""Runs that a server forks: what they share, what they do not, and what happens if it dies."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeps.language.grid import Grid, parse
from sweeps.launchers.local import launch
from sweeps.launchers.options import Options
from sweeps.store.directory import RunDir, State, prepare
from tests.sweeps.launchers.test_local import quiet
from tests.sweeps.toys import KIND, ToySpec, result, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers fork on Linux only")

Folders = Callable[[Grid], list[RunDir]]

IMPORTED_IN = os.getpid()

HERE = KIND.replace("tests.sweeps.toys:run", "tests.sweeps.runs.test_forking:{}")


def look(spec: ToySpec, out: Path, progress: object) -> dict[str, Any]:
    """Return, as a run's result, what its process looks like."""
    return result(spec) | {
        "argv": sys.argv[1:],
        "imported_here": os.getpid() == IMPORTED_IN,
        "numpy": float(np.random.random()),
        "python": random.random(),
        "server": os.getppid(),
        "signals": [signal.getsignal(s) == signal.SIG_DFL for s in (signal.SIGTERM, 17)],
        "threads": threading.active_count(),
        "open": len(os.listdir("/proc/self/fd")),
        "stdin": sys.stdin.read(),
    }


def orphan(spec: ToySpec, out: Path, progress: Any) -> dict[str, Any]:
    """Kill the server, and go on."""
    server, attempts = os.getppid(), out.parent / "attempts.jsonl"
    if spec.fate == "fine" or attempts.read_text().count("start") == 1:
        os.kill(server, signal.SIGKILL)
    return run(spec, out, progress) | {"server": server}


def looks(folders: Folders, runner: str, text: str) -> list[RunDir]:
    return folders(parse(f"name: toys\n{HERE.format(runner)}\nkind: toy\n{text}", "toys.yaml"))


def results(runs: list[RunDir]) -> list[dict[str, Any]]:
    found = [one.result() for one in runs]
    assert all(one is not None for one in found), [one.error() for one in runs]
    return [one for one in found if one is not None]


def test_runs_share_a_server_and_nothing_else(folders: Folders) -> None:
    runs = looks(folders, "look", "seeds: 3")
    launch(runs, Options(jobs=1, start="forkserver"), quiet)
    found = results(runs)
    assert len({one["server"] for one in found}) == 1
    assert len({one["python"] for one in found}) == len({one["numpy"] for one in found}) == 3
    for folder, one in zip(runs, found, strict=True):
        assert one["argv"] == [str(folder.path)]
        assert one["imported_here"]
        assert one["signals"] == [True, True]
        assert one["threads"] == 1
        assert one["stdin"] == ""


def test_a_forked_run_has_no_more_files_open_than_a_fresh_one(folders: Folders) -> None:
    runs = looks(folders, "look", "seeds: 2")
    for one, start in zip(runs, ("spawn", "forkserver"), strict=True):
        launch([one], Options(start=start), quiet)
    fresh, forked = results(runs)
    assert forked["open"] <= fresh["open"]
    assert fresh["server"] == os.getpid() != forked["server"]


def test_a_run_whose_server_dies_goes_on_and_the_next_has_another(folders: Folders) -> None:
    runs = looks(folders, "orphan", "base: {seconds: 0.3}\nseeds: 2")
    launch(runs, Options(jobs=1, retries=0, start="forkserver"), quiet)
    found = results(runs)
    assert found[0]["server"] != found[1]["server"]
    assert [one.attempts() for one in runs] == [1, 1]


def test_a_run_that_dies_after_its_server_is_tried_again(folders: Folders) -> None:
    (one,) = looks(folders, "orphan", "base: {fate: kill once}")
    launch([one], Options(retries=1, start="forkserver"), quiet)
    assert one.state() is State.DONE
    assert one.attempts() == 2


def test_a_server_that_cannot_import_is_done_without(folders: Folders) -> None:
    grid = parse(f"name: toys\n{KIND}\nkind: toy", "toys.yaml")
    folder = RunDir(folders(grid)[0].path.with_name("other"))
    prepare(folder, grid.runs[0].record() | {"runner": "sweeps.missing:run"})
    launch([folder], Options(start="forkserver"), quiet)
    error = folder.error()
    assert error is not None
    assert "there is no module 'sweeps.missing'" in error["message"]


TRUE = """
name: exact
blocks:
  - kind: rl
    base: {steps: 96, n_envs: 1, eval_every: 48, eval_episodes: 1, net_arch: [32, 32],
           hyper.n_steps: 32, hyper.batch_size: 32, sparse.sparsity: 0.8, sparse.method: srigl,
           sparse.update_every: 2}
    grid: {algo: [ppo]}
  - kind: rl
    base: {algo: sac, env: Pendulum-v1, steps: 150, eval_every: 100, eval_episodes: 1,
           net_arch: [32, 32], sparse.sparsity: 0.8, sparse.method: rigl, sparse.update_every: 10}
  - kind: cl
    base: {tasks: 2, epochs: 1, samples: 256, hidden: [32], sparse.sparsity: 0.8,
           sparse.method: rigl, sparse.update_every: 2}
  - kind: crl
    base: {steps: 96, n_envs: 1, eval_episodes: 1, net_arch: [32, 32], alone: false,
           hyper.n_steps: 32, hyper.batch_size: 32, sparse.sparsity: 0.8, sparse.method: set,
           sparse.update_every: 2}
"""


@pytest.mark.slow
def test_forked_runs_equal_fresh_ones_to_the_bit(tmp_path: Path) -> None:
    grid = parse(TRUE, "true.yaml")
    found = {}
    for start in ("spawn", "forkserver"):
        runs = [RunDir(tmp_path / start / one.run_id) for one in grid.runs]
        for planned, folder in zip(grid.runs, runs, strict=True):
            prepare(folder, planned.record())
        launch(runs, Options(start=start), quiet)
        found[start] = results(runs)
        for one in found[start]:
            del one["provenance"]
    assert found["spawn"] == found["forkserver"]
