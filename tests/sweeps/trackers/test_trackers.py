"""Trackers: what they are told, and that no run is the worse for one."""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from sparse_core.checks import InputError
from sweeps.language.grid import Grid
from sweeps.runs import worker
from sweeps.store.directory import RunDir, State
from sweeps.trackers import follow, reading
from sweeps.trackers.choice import FOLDER, TRACK, TRACKERS, Subject, Tracker, find, names_of

Toys = Callable[[str], Grid]
Folders = Callable[[Grid], list[RunDir]]
HERE = "tests.sweeps.trackers.test_trackers"


class Lines:
    """A tracker that writes what it is told."""

    def __init__(self, subject: Subject) -> None:
        self._file = subject.folder / f"{subject.id}.jsonl"
        self._write("begin", subject.name, subject.group, dict(subject.config))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self._write("log", step, dict(numbers))

    def end(self, summary: Mapping[str, float], files: Sequence[Path], failed: bool) -> None:
        self._write("end", dict(summary), [file.name for file in files], failed)

    def _write(self, *said: object) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(said) + "\n")


def broken(subject: Subject) -> Tracker:
    """Fail as a tracker without network does."""
    print("chatter that nobody wants")
    raise ConnectionError("no route\nto host")


def stuck(subject: Subject) -> Tracker:
    """Never come to an end."""
    time.sleep(60)
    raise AssertionError


def told(path: Path) -> list[list[object]]:
    """Return what a tracker of lines was told."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def track(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Let trackers of this module follow runs from now on; return the folder of the first."""

    def announce(*names: str) -> Path:
        monkeypatch.setenv(TRACK, ",".join(f"{HERE}:{name}" for name in names))
        monkeypatch.setenv(FOLDER, str(tmp_path / "tracking"))
        return tmp_path / "tracking" / f"{HERE}.{names[0]}"

    return announce


def test_a_run_is_followed_and_a_broken_tracker_costs_a_line(
    toys: Toys,
    folders: Folders,
    track: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    (run,) = folders(toys("kind: toy\nbase: {points: 2, seconds: 0.6, rate: 0.5}"))
    place = track("Lines", "broken")
    assert worker.execute(run) == worker.DONE
    assert capfd.readouterr().err == (
        f"tracker {HERE}:broken: ConnectionError: no route to host; the run goes on without it\n"
    )
    first, *logged, last = told(place / f"{run.path.name}.jsonl")
    assert first[:3] == ["begin", f"toy {run.path.name}", "toys"]
    assert isinstance(first[3], dict) and first[3]["rate"] == 0.5 and first[3]["kind"] == "toy"
    assert logged[0] == ["log", 0, {"progress/done": 0.0}]
    assert logged[-2:] == [["log", 100, {"curve/curve": 5.0}], ["log", 200, {"curve/curve": 10.0}]]
    assert isinstance(last[1], dict) and last[1]["final/score"] == 10.0
    assert last[2:] == [["spec.json", "result.json"], False]


def test_a_run_that_fails_is_said_to_have_failed(
    toys: Toys, folders: Folders, track: Callable[..., Path]
) -> None:
    (run,) = folders(toys("kind: toy\nbase: {fate: raise}"))
    place = track("Lines")
    assert worker.execute(run) == worker.FAILED
    assert told(place / f"{run.path.name}.jsonl")[-1] == [
        "end",
        {},
        ["spec.json", "error.json"],
        True,
    ]


def test_nobody_waits_for_a_tracker_that_is_stuck(
    toys: Toys,
    folders: Folders,
    track: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (run,) = folders(toys("kind: toy"))
    track("stuck")
    monkeypatch.setenv("DST_TRACK_PATIENCE", "0.2")
    assert worker.execute(run) == worker.DONE
    assert run.state() is State.DONE
    assert capfd.readouterr().err == (
        f"tracker {HERE}:stuck: was not done 0.2 s after the run, and was stopped\n"
    )


def test_a_report_is_shown_as_files(
    tmp_path: Path, track: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = track("Lines")
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("report.html", "table.csv", "notes.txt"):
        (folder / name).touch()
    follow.follow(f"{HERE}:Lines", folder)
    begin, end = told(place / "mine-report.jsonl")
    assert begin == ["begin", "report", "mine", {}]
    assert end == ["end", {}, ["report.html", "table.csv"], False]


def test_whole_lines_are_read_once_each_and_a_tasks_lines_under_its_name(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    (run.output / "task_1").mkdir(parents=True)
    following = reading.Following(run)
    assert list(following.points()) == []
    with (run.output / "progress.json").open("w") as file:
        file.write('{"a": 1.5, "time/total_timesteps": 8, "text": "x", "b": NaN}\n{"a": ')
    assert list(following.points()) == [(8, {"a": 1.5, "time/total_timesteps": 8})]
    with (run.output / "progress.json").open("a") as file:
        file.write("2}\n")
    (run.output / "task_1" / "progress.json").write_text('{"a": 3}\n')
    assert list(following.points()) == [(0, {"a": 2}), (0, {"task_1/a": 3})]
    run.report_progress({"done": 0.25, "numbers": {"steps": 40.0, "return": 7.0}, "time": 1.0})
    expected = [(40, {"progress/return": 7.0, "progress/done": 0.25})]
    assert list(following.points()) == expected
    assert list(following.points()) == []


def test_curves_and_final_numbers_of_a_result() -> None:
    result = {
        "score": 3.0,
        "still": True,
        "curve": [[10, 1.0], [20, 3.0]],
        "plasticity": {"churn": [[10, 0.5]]},
        "sparsity": {"requested": 0.9, "achieved": 0.75},
        "layers": [{"name": "a.weight", "active": 1, "total": 4}],
        "provenance": {"wall_s": 2.5, "git": None},
    }
    assert list(reading.curves({"kind": "rl"}, result)) == [
        (10, {"curve/curve": 1.0}),
        (20, {"curve/curve": 3.0}),
        (10, {"curve/plasticity.churn": 0.5}),
    ]
    own = reading.curves({"kind": "a grid's own"}, result)
    assert next(own) == (10, {"curve/curve": 1.0})
    assert reading.summary(result) == {
        "final/score": 3.0,
        "final/sparsity.requested": 0.9,
        "final/sparsity.achieved": 0.75,
        "density/a.weight": 0.25,
        "cost/wall_s": 2.5,
    }


def test_names_of_trackers_are_checked_and_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    own = f"{HERE}:Lines"
    assert names_of(f"{own}, {own},") == [own]
    assert find(own) is Lines
    with pytest.raises(InputError, match="track='tb': must be one of tensorboard, wandb, mlflow"):
        names_of("tb")
    with pytest.raises(InputError, match=r"must be a class or function of a sweeps\.trackers"):
        find("os:getpid")


def test_event_files_hold_what_they_were_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = {"sparse.method": "rigl", "net_arch": [64, 64], "rate": 0.1, "preset": None}
    tracker = find("tensorboard")(Subject("0a1b", "rl 0a1b", "mine", tmp_path, config))
    for step in (10, 20):
        tracker.log({"eval/mean_reward": step / 2}, step)
    tracker.end({"final/score": 7.0}, [], False)
    events = EventAccumulator(str(tmp_path / "mine" / "0a1b")).Reload()
    logged = [(event.step, event.value) for event in events.Scalars("eval/mean_reward")]
    assert logged == [(10, 5.0), (20, 10.0)]
    assert [event.value for event in events.Scalars("final/score")] == [7.0]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TRACKERS if name != "tensorboard"])
def test_two_runs_at_a_time_are_shown_by_the_real_one(
    name: str, toys: Toys, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    from sweeps.launchers.local import launch
    from sweeps.launchers.options import Options

    monkeypatch.setenv(TRACK, name)
    monkeypatch.setenv(FOLDER, str(tmp_path / "tracking"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DST_TRACK_PATIENCE", "200")
    runs = folders(toys("kind: toy\nbase: {seconds: 2}\nseeds: 2"))
    launch(runs, Options(jobs=2), lambda: None)
    assert [run.log_tail() for run in runs] == ["", ""]
    shown = SHOWN[name](tmp_path / "tracking" / name)
    assert shown == {run.path.name: 10.0 + seed / 2 for seed, run in enumerate(runs)}


def _offline(folder: Path) -> dict[str, float]:
    """Return the final score of each run that W&B is to upload, if its file mentions one."""
    files = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    found = {path.stem.removeprefix("run-"): path.read_bytes() for path in files}
    numbers = {name: re.search(rb"final/score.*?(\d+\.\d+)", text) for name, text in found.items()}
    return {name: float(number[1]) for name, number in numbers.items() if number is not None}


def _database(folder: Path) -> dict[str, float]:
    """Return the final score of each run in MLflow's database."""
    from mlflow.tracking import MlflowClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its database's library about MLflow itself
        client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        (experiment,) = client.search_experiments(filter_string="name = 'toys'")
        runs = client.search_runs([experiment.experiment_id])
    return {
        run.data.tags["dst.run_id"]: run.data.metrics["final/score"]
        for run in runs
        if run.info.status == "FINISHED"
    }


SHOWN = {"wandb": _offline, "mlflow": _database}


def test_no_tracker_follows_unless_it_is_asked_for(toys: Toys, folders: Folders) -> None:
    assert TRACK not in os.environ
    (run,) = folders(toys("kind: toy"))
    worker.execute(run)
    assert not (run.path.parent.parent / "tracking").exists()
