"""The worker: one run, its result or its error, and where it comes from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.language.grid import Grid
from sweeps.runs import provenance, worker
from sweeps.store.directory import RunDir, State

Toys = Callable[[str], Grid]
Folders = Callable[[Grid], list[RunDir]]


def test_a_result_says_what_was_run_and_where_it_comes_from(toys: Toys, folders: Folders) -> None:
    grid = toys("kind: toy\nbase: {sparse.method: set, sparse.sparsity: 0.9, seconds: 0.05}")
    (folder,) = folders(grid)
    assert worker.execute(folder) == worker.DONE
    result = folder.result()
    assert result is not None
    assert result["score"] == 9.0
    assert result["sparsity"] == {"requested": 0.9, "achieved": 0.9}
    assert result["layers"] == [{"name": "brick", "active": 10, "total": 100}]
    assert result["run_id"] == grid.runs[0].run_id
    assert result["kind"] == "toy"
    assert result["spec"]["sparse"]["method"] == "set"
    origin = result["provenance"]
    assert origin["versions"]["python"].startswith("3.")
    assert set(provenance.PACKAGES) <= origin["versions"].keys()
    assert origin["threads"] >= 1
    assert origin["cpu"]
    assert 0.05 <= origin["wall_s"] < 5
    assert 0 <= origin["cpu_s"] < 5
    assert 5 < origin["peak_rss_mb"] < 10_000
    assert origin["attempt"] == 1
    assert origin["git"] is None or set(origin["git"]) == {"commit", "dirty"}
    assert (folder.output / "notes.txt").read_text() == "built"


def test_progress_is_reported_without_what_json_cannot_hold(toys: Toys, folders: Folders) -> None:
    (folder,) = folders(toys("kind: toy"))
    seen = []
    worker.execute(folder, lambda done, numbers: seen.append((done, sorted(numbers))))
    assert seen == [(0.0, []), (0.5, ["height", "speed"])]
    progress = folder.progress()
    assert progress is not None
    assert progress["done"] == 0.0  # the next came too soon after to be written
    assert progress["started"] <= progress["time"]


def test_numbers_that_are_not_finite_are_left_out(
    toys: Toys, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PROGRESS_INTERVAL", 0.0)
    (folder,) = folders(toys("kind: toy"))
    worker.execute(folder)
    progress = folder.progress()
    assert progress is not None
    assert (progress["done"], progress["numbers"]) == (0.5, {"speed": 2.0})


@pytest.mark.parametrize(
    ("fate", "kind", "message"),
    [
        ("raise", "RuntimeError", "the tower\nfell over"),
        ("leave", "SystemExit", "had enough"),
        ("nan", "ValueError", "the runner's result: score=nan: must be a finite number"),
    ],
)
def test_what_a_runner_raises_is_recorded(
    toys: Toys, folders: Folders, fate: str, kind: str, message: str
) -> None:
    (folder,) = folders(toys(f"kind: toy\nbase: {{fate: {fate}}}"))
    assert worker.execute(folder) == worker.FAILED
    error = folder.error()
    assert error is not None
    assert (error["type"], error["message"], error["attempt"]) == (kind, message, 1)
    assert error["traceback"].startswith("Traceback (most recent call last)")
    assert folder.state() is State.FAILED


def test_a_runner_that_is_not_there_is_recorded(toys: Toys, folders: Folders) -> None:
    (folder,) = folders(toys("kind: toy"))
    record = folder.record() | {"runner": "nowhere.at:all"}
    (folder.path / "spec.json").write_text(json.dumps(record))
    assert worker.execute(folder) == worker.FAILED
    error = folder.error()
    assert error is not None
    assert error["message"].startswith("runner='nowhere.at:all': there is no module 'nowhere.at'")


def test_a_runner_that_is_no_function_is_recorded_as_wrong_input(
    toys: Toys, folders: Folders
) -> None:
    (folder,) = folders(toys("kind: toy"))
    (folder.path / "spec.json").write_text(json.dumps(folder.record() | {"runner": "os:environ"}))
    assert worker.execute(folder) == worker.FAILED
    error = folder.error() or {}
    assert error["input"] and error["message"] == (
        "runner='os:environ': is a _Environ in 'os', must be a function run(spec, out, progress)"
    )


def test_a_run_that_is_done_is_left_alone(toys: Toys, folders: Folders) -> None:
    (folder,) = folders(toys("kind: toy"))
    assert worker.execute(folder) == worker.DONE
    before = (folder.path / "result.json").stat().st_mtime_ns
    assert worker.execute(folder) == worker.DONE
    assert (folder.path / "result.json").stat().st_mtime_ns == before
    assert folder.attempts() == 1


def test_a_run_that_is_held_is_left_alone(toys: Toys, folders: Folders) -> None:
    (folder,) = folders(toys("kind: toy"))
    with folder.lock():
        assert worker.execute(folder) == worker.BUSY
        command = [sys.executable, "-m", "sweeps.runs.worker", str(folder.path)]
        assert subprocess.run(command, timeout=30).returncode == worker.BUSY
    assert folder.attempts() == 0


def test_a_corrupt_result_is_run_again_and_nothing_else_is_touched(
    toys: Toys, folders: Folders
) -> None:
    one, other = folders(toys("kind: toy\nseeds: 2"))
    for folder in (one, other):
        worker.execute(folder)
    good = (one.path / "result.json").read_text()
    untouched = {path: path.read_bytes() for path in other.path.rglob("*") if path.is_file()}
    (one.path / "result.json").write_text(good[:-20])
    for folder in (one, other):
        assert worker.execute(folder) == worker.DONE
    again = one.result()
    assert again is not None and again["score"] == json.loads(good)["score"]
    assert (one.attempts(), other.attempts()) == (2, 1)
    assert untouched == {
        path: path.read_bytes() for path in other.path.rglob("*") if path.is_file()
    }


def test_torch_gets_the_threads_of_the_environment_if_it_is_there(
    toys: Toys, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Torch:
        threads = 0

        def set_num_threads(self, threads: int) -> None:
            self.threads = threads

    torch = Torch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    (folder,) = folders(toys("kind: toy"))
    assert worker.execute(folder) == worker.DONE
    assert torch.threads == 3
    result = folder.result()
    assert result is not None and result["provenance"]["threads"] == 3


def test_as_a_command_it_says_what_it_needs(tmp_path: Path) -> None:
    for words, said in (([], "usage: "), ([str(tmp_path)], "sweeps.runs.worker: run directory")):
        command = [sys.executable, "-m", "sweeps.runs.worker", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 2
        assert done.stderr.startswith(said) and done.stderr.count("\n") == 1


def test_provenance_knows_the_commit_of_this_checkout_or_of_none(tmp_path: Path) -> None:
    root = Path(provenance.__file__).parents[2]
    state = provenance.git_state()
    asked = subprocess.run(
        ["git", "-C", root, "ls-files", "sweeps/runs/provenance.py"], capture_output=True, text=True
    )
    if asked.returncode or not asked.stdout:
        assert state is None
        return
    head = subprocess.run(
        ["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    assert state is not None and state["commit"] == head.stdout.strip()
    assert isinstance(state["dirty"], bool)


def test_a_copy_outside_of_version_control_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "thesis"
    installed = repository / ".venv" / "sweeps"
    installed.mkdir(parents=True)
    for words in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q"]):
        extra = ["--allow-empty", "-m", "x"] if "commit" in words else []
        subprocess.run(["git", "-C", str(repository), *words, *extra], check=True)
    monkeypatch.setattr(provenance, "__file__", str(installed / "provenance.py"))
    assert provenance.git_state() is None


def test_a_meter_counts_children() -> None:
    meter = provenance.Meter()
    program = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", program], check=True)
    read = meter.read()
    assert read["cpu_s"] >= 0.2
    assert read["wall_s"] >= 0.2
    assert read["peak_rss_mb"] > 1


def test_threads_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert provenance.threads() == 5
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert provenance.threads() == provenance.available_cpus() <= (os.cpu_count() or 1)
