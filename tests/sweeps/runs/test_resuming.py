"""Runs that are killed go on from their checkpoints, once each, and leave nothing behind."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparse_core.checkpoints import Checkpoints
from sparse_core.checks import InputError
from sweeps.language.grid import Grid, parse
from sweeps.launchers.local import launch
from sweeps.launchers.options import Options
from sweeps.runs import worker
from sweeps.runs.worker import MINUTES, checkpoint_minutes
from sweeps.store.directory import RunDir, prepare
from tests.sweeps.launchers.test_local import alive, quiet
from tests.sweeps.toys import KIND, ToySpec, result

Folders = Callable[[Grid], list[RunDir]]

HERE = KIND.replace("tests.sweeps.toys:run", "tests.sweeps.runs.test_resuming:count")


def count(
    spec: ToySpec, out: Path, progress: Any, checkpoints: Checkpoints | None = None
) -> dict[str, Any]:
    """Count to six, and die at four unless it has gone on from there."""
    assert checkpoints is not None
    state = checkpoints.load()
    began = 0 if state is None else state["number"]
    for number in range(began, 6):
        progress(number / 6, {})
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass
        checkpoints.save({"number": number})
        (out / "last").write_text(str(number))
        if number == 4 and began == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return result(spec) | {"began": began}


def test_a_run_that_was_killed_goes_on_and_its_checkpoints_go_with_the_result(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MINUTES, "1e-9")
    (run,) = folders(parse(f"name: toys\n{HERE}\nkind: toy", "toys.yaml"))
    launch([run], Options(), quiet)
    found = run.result()
    assert found is not None
    assert (found["began"], run.attempts()) == (4, 2)
    assert "goes on from checkpoint 5" in run.log.read_text()
    assert not run.checkpoint.exists()
    assert (run.output / "last").read_text() == "5"
    origin = found["provenance"]
    done, seconds = zip(*origin["pace"], strict=True)
    assert done == tuple(round(number / 6, 5) for number in range(6))
    assert all(after - before >= 0.019 for before, after in itertools.pairwise(seconds))
    assert origin["cpu_s"] >= seconds[-1] + 0.019


def test_what_an_attempt_wrote_goes_where_its_checkpoint_cannot_be_used(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MINUTES, "1e-9")
    kind = HERE.replace(":count", ":add_lines")
    (run,) = folders(parse(f"name: toys\n{kind}\nkind: toy", "toys.yaml"))
    (run.path / "checkpoint").mkdir()
    (run.path / "checkpoint" / "00000001.ckpt").write_bytes(b"torn")
    (run.output / "round_0").mkdir(parents=True)
    (run.output / "lines").write_text("old\n")
    worker.execute(run)
    assert run.result() is not None
    assert [file.name for file in run.output.iterdir()] == ["lines"]
    assert (run.output / "lines").read_text() == "new\n"


def add_lines(
    spec: ToySpec, out: Path, progress: Any, checkpoints: Checkpoints | None = None
) -> dict[str, Any]:
    """Write a line behind those that are there."""
    assert checkpoints is not None and checkpoints.load() is None
    with (out / "lines").open("a") as file:
        file.write("new\n")
    return result(spec)


def test_checkpoints_of_a_run_that_was_killed_with_its_result_written_go(folders: Folders) -> None:
    (run,) = folders(parse(f"name: toys\n{KIND}\nkind: toy", "toys.yaml"))
    launch([run], Options(), quiet)
    run.checkpoint.mkdir()
    (run.checkpoint / "00000001.ckpt").touch()
    launch([run], Options(), quiet)
    assert not run.checkpoint.exists()
    assert run.attempts() == 1


@pytest.mark.parametrize("wrong", ["five", "-1", "inf", "nan"])
def test_minutes_that_are_no_number_are_refused(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MINUTES, wrong)
    with pytest.raises(InputError, match="must be a number of minutes, at least 0"):
        checkpoint_minutes()


TINY = """
name: tiny
kind: rl
base: {steps: 192, n_envs: 1, eval_every: 96, eval_episodes: 1, net_arch: [16, 16],
       hyper.n_steps: 32, hyper.batch_size: 32, sparse.sparsity: 0.6, sparse.update_every: 2}
seeds: 200
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_runs_survive_thirty_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MINUTES, "1e-9")
    (tmp_path / "tiny.yaml").write_text(TINY)
    grid = parse(TINY, "tiny.yaml")
    runs = [RunDir(tmp_path / "runs/tiny" / run.run_id) for run in grid.runs]
    moments = random.Random(0)
    command = [sys.executable, "-m", "sweeps.cli", "sweep", "run", "tiny.yaml", "--retries", "30"]
    kills = 0
    driver = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    while driver.poll() is None:
        time.sleep(moments.uniform(0.2, 1.0))
        going = [run for run in runs if run.running()]
        if kills < 30 and going and any(run.result() is not None for run in runs):
            lines = moments.choice(going).path.joinpath("attempts.jsonl").read_text()
            pid = int(lines.splitlines()[-1].partition('"pid": ')[2].partition(",")[0] or 0)
            if pid and alive(pid):
                os.kill(pid, signal.SIGKILL)
                kills += 1
            if kills in (10, 20):
                driver.kill()
                driver.wait()
                kills += 1
                driver = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert driver.returncode == 0
    assert kills == 30
    assert all(run.result() is not None for run in runs)
    ends = [run.path.joinpath("attempts.jsonl").read_text().count('"done"') for run in runs]
    assert set(ends) <= {0, 1}  # 0: killed between its result and this line
    assert sum(ends) >= 170
    assert list(tmp_path.rglob("*.tmp")) == list(tmp_path.rglob("*.ckpt")) == []


STEPS = int(os.environ.get("DST_SURVIVAL_STEPS", "3000"))

SACS = f"""
name: sacs
kind: rl
base: {{algo: sac, env: Pendulum-v1, steps: {STEPS}, eval_episodes: 2, net_arch: [64, 64],
       sparse.method: rigl, sparse.sparsity: 0.8}}
seeds: 5
"""


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_sac_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = parse(SACS, "sacs.yaml")
    found: dict[str, list[dict[str, Any]]] = {}
    for name, minutes in (("whole", "0"), ("killed", "0.005")):
        monkeypatch.setenv(MINUTES, minutes)
        runs = [RunDir(tmp_path / name / run.run_id) for run in grid.runs]
        for planned, folder in zip(grid.runs, runs, strict=True):
            prepare(folder, planned.record())
        over = threading.Event()
        kills = [0]
        if name == "killed":
            killer = threading.Thread(target=_kill, args=(runs, over, kills))
            killer.start()
        launch(runs, Options(retries=20), quiet)
        over.set()
        results = [run.result() for run in runs]
        found[name] = [{**one, "provenance": None} for one in results if one is not None]
    killer.join()
    assert kills[0] == 10
    assert len(found["whole"]) == 5
    assert found["killed"] == found["whole"]


def _kill(runs: list[RunDir], over: threading.Event, kills: list[int]) -> None:
    """Kill runs that have a checkpoint, ten times in all."""
    moments = random.Random(0)
    while kills[0] < 10 and not over.wait(moments.uniform(0.5, 2.0)):
        going = [run for run in runs if run.running() and any(run.checkpoint.glob("*.ckpt"))]
        if going:
            lines = moments.choice(going).path.joinpath("attempts.jsonl").read_text()
            os.kill(int(lines.splitlines()[-1].partition('"pid": ')[2].partition(",")[0]), 9)
            kills[0] += 1
