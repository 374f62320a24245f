"""`dst enjoy`: which run is meant, and one line for every reason why it cannot be shown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sparse_core.checks import InputError
from sweeps import cli
from sweeps.language.grid import Grid, Run
from sweeps.language.kinds import KINDS
from sweeps.runs import worker
from sweeps.store.directory import RunDir, prepare
from tests.sweeps.toys import ToySpec

Toys = Callable[[str], Grid]


pytestmark = pytest.mark.usefixtures("own_environment")


def play(spec: ToySpec, output: Path, file: Path | None, seed: int) -> Any:
    """Stand in for a player."""
    if spec.note == "blind":
        raise InputError("env='tower': cannot be\nrendered", field="env")
    if file is not None:
        file.write_text(f"{spec.task} {seed}")
    tasks = (0, 1) if spec.note == "tasks" else (None,)
    return [SimpleNamespace(steps=7, score=1.5, task=task) for task in tasks]


@pytest.fixture
def made(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Prepare a run of toys in `runs/<grid>`, do it if wanted, and return it."""

    def make(text: str = "kind: toy", grid: str = "toys", do: bool = True) -> Run:
        (run,) = toys(text).runs
        toy = dataclasses.replace(run.kind, player="tests.sweeps.commands.test_enjoy:play")
        monkeypatch.setitem(KINDS, "toy", toy)
        folder = RunDir(Path("runs") / grid / run.run_id)
        prepare(folder, run.record())
        if do:
            worker.execute(folder, None)
        return run

    return make


def test_a_run_is_found_by_its_directory_and_by_its_identity(
    made: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    made(grid="first", do=False)
    run = made(grid="second")
    for name in (run.run_id, f"runs/second/{run.run_id}"):
        assert cli.main(["enjoy", name, "--seed", "4"]) == 0
        file = f"runs/second/{run.run_id}/output/episode.gif"
        assert capsys.readouterr() == (f"7 steps, return 1.50: {file}\n", "")
        assert Path(file).read_text() == "tower 4"
        Path(file).unlink()


def test_the_file_can_be_named_or_left_out(
    made: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = made()
    assert cli.main(["enjoy", run.run_id, "--out", "mine.gif"]) == 0
    assert capsys.readouterr().out == "7 steps, return 1.50: mine.gif\n"
    assert Path("mine.gif").read_text() == "tower 0"
    assert cli.main(["enjoy", run.run_id, "--human"]) == 0
    assert capsys.readouterr().out == "7 steps, return 1.50\n"


def test_each_task_has_a_line(made: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    run = made("kind: toy\nbase: {note: tasks}")
    assert cli.main(["enjoy", run.run_id, "--out", "mine.gif"]) == 0
    said = "task 0: 7 steps, return 1.50\ntask 1: 7 steps, return 1.50\nmine.gif\n"
    assert capsys.readouterr().out == said


def test_what_cannot_be_shown_ends_in_one_line(
    made: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    pending = made(do=False).run_id
    failed = made("kind: toy\nbase: {fate: raise}").run_id
    blind = made("kind: toy\nbase: {note: blind}").run_id
    Path("empty").mkdir()
    for words, said in {
        "nothing": "run 'nothing': no such directory, and no run of that name in runs",
        "empty": "run 'empty': no such directory",
        pending: f"run '{pending}': is pending, only finished runs can be shown",
        failed: f"run '{failed}': is failed, only",
        blind: "env='tower': cannot be rendered",
        f"{blind} --seed -1": "seed=-1: must be an integer of at least 0",
        f"{blind} --human --out x.gif": "--out: not allowed with argument --human",
        "": "the following arguments are required: RUN",
    }.items():
        assert cli.main(["enjoy", *words.split()]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert said in captured.err and captured.err.count("\n") == 1


def test_what_a_directory_names_as_its_spec_is_not_imported(
    made: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = made()
    folder = RunDir(Path("runs/toys") / run.run_id)
    record = folder.record() | {"spec_type": "tests.sweeps.must_not_be_imported:Spec"}
    (folder.path / "spec.json").write_text(json.dumps(record))
    assert cli.main(["enjoy", run.run_id]) == 0
    assert capsys.readouterr().out.startswith("7 steps")


def test_a_kind_without_a_player_has_no_episodes(
    made: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = made()
    monkeypatch.setitem(KINDS, "toy", dataclasses.replace(KINDS["toy"], player=""))
    assert cli.main(["enjoy", run.run_id]) == 2
    assert "a run of kind 'toy' has no episodes" in capsys.readouterr().err
