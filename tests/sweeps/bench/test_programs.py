"""Programs of measurements: wrong input is one line, and exit code 2, before anything is timed."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dstrl.runs.saved import save
from dstrl.tasks.spec import CRLSpec
from dstrl.tasks.switching import begin_task
from dstrl.tasks.train import make_model
from sparse_core.checks import InputError
from sweeps import cli
from sweeps.bench import cl, command
from sweeps.bench.command import exit_code
from sweeps.language import spec as specs
from sweeps.language.grid import make_run
from sweeps.language.kinds import KINDS, spec_type
from sweeps.store.directory import RunDir, prepare

Program = Callable[..., tuple[int, str, str]]


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Program:
    """Run a program of this package in this process, in a temporary directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DST_DATA", raising=False)

    def run(name: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *words])
        main = importlib.import_module(f"sweeps.bench.{name}").main
        try:
            code = exit_code(f"sweeps.bench.{name}", main)
        except SystemExit as ending:
            code = int(ending.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("mnist --foo", "unrecognized arguments: --foo"),
        ("mnist --data nowhere", "data='nowhere': must hold MNIST/raw/train-images-idx3-ubyte,"),
        ("mnist --seeds 0 -1", "argument --seeds: '-1': must be an integer of at least 0"),
        ("mnist --out no/where.json", "'no/where.json': must be a file in a folder that exists"),
        ("mnist --backend fast", "argument --backend: invalid choice: 'fast'"),
        ("cl_study nope", "grid 'nope': no such file, and no packaged grid"),
        ("cl_study quickstart", "grid='quickstart': the study's grids are of kind cl"),
        ("cl_study cl_digits", "grid='cl_digits': no finished runs in runs, and no docs/results/"),
        ("choice --rounds 0", "argument --rounds: '0': must be an integer of at least 1"),
        ("choice --json no/where.json", "'no/where.json': must be a file in a folder that exists"),
        ("envs --rounds 0", "argument --rounds: '0': must be an integer of at least 1"),
        ("envs --json no/where.json", "'no/where.json': must be a file in a folder that exists"),
        ("xmc --features 0", "argument --features: '0': must be an integer of at least 1"),
        ("xmc --features 4 --fan-in 5", "--fan-in 5: must be at most --features"),
        ("reused --runs-dir nowhere", "runs_dir='nowhere': holds no finished run of grid"),
        ("kernels --cases memory threads", "--cases threads needs --threads 2 or more"),
    ],
)
def test_wrong_input_is_one_line(program: Program, words: str, message: str) -> None:
    code, out, err = program(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"sweeps.bench.{words.split()[0]}: ") or "dst bench" in err
    assert message in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["mnist", "choice", "xmc", "reused", "cl_study", "envs"])
def test_help_is_help(program: Program, name: str) -> None:
    code, out, err = program(name, "--help")
    assert (code, err) == (0, "") and out.startswith(f"usage: sweeps.bench.{name}")


def test_what_wrappers_add_to_a_step_is_printed_and_written(
    program: Program, tmp_path: Path
) -> None:
    written = tmp_path / "added.json"
    code, out, _ = program("envs", "--rounds", "1", "--json", str(written))
    added = json.loads(written.read_text())
    assert code in (0, 1) and len(added) == 14
    assert all(name in out for name in added)


def test_a_case_that_needs_threads_is_left_out_with_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "set_threads", lambda threads: None)
    cases = {"one": lambda setting: iter([]), "two": lambda setting: iter([])}
    assert command.run("x", None, cases, [], several=("two",)) == 0
    assert "two: left out, it needs --threads 2 or more" in capsys.readouterr().out
    assert command.run("x", None, cases, ["--threads", "2"], several=("two",)) == 0
    assert "left out" not in capsys.readouterr().out


def test_a_network_without_room_is_refused_before_anything_is_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cl, "WIDTHS", (16, 24, 24, 3))
    monkeypatch.setattr(cl, "set_threads", lambda threads: None)
    with pytest.raises(SystemExit) as ending:
        cli.main(["bench", "cl", "--earlier", "50", "--share", "forward"])
    out, err = capsys.readouterr()
    assert (ending.value.code, out) == (2, "") and err.count("\n") == 1
    assert err.startswith("dst bench cl: --earlier 50 --share forward: task ") and "not fit" in err


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(3.19, "3.19 times dense (bar 4: NOT REACHED)"), (4.0, "4.00 times dense (bar 4)")],
)
def test_a_bar_that_is_not_reached_is_remarked(ratio: float, said: str) -> None:
    assert cl.against_bar(ratio, "dense", 4.0) == said


def test_files_that_fail_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def fail() -> None:
        (tmp_path / "no" / "where").write_text("")

    assert exit_code("x", fail) == 1
    assert capsys.readouterr().err == f"x: '{tmp_path}/no/where': No such file or directory\n"

    def refuse() -> None:
        raise InputError("a=1:\nno")

    assert exit_code("x", refuse) == 2 and capsys.readouterr().err == "x: a=1: no\n"
    assert exit_code("x", lambda: None) == 0 and exit_code("x", lambda: 1) == 1


def test_what_tasks_reuse_is_read_among_runs_of_other_kinds(
    program: Program, tmp_path: Path
) -> None:
    def a_run(kind: str, **values: object) -> tuple[RunDir, object]:
        run = make_run(kind, KINDS[kind], specs.load(spec_type(KINDS[kind].spec), values))
        folder = RunDir(tmp_path / "runs/continual_rl" / run.run_id)
        prepare(folder, run.record())
        sparsity = {"requested": 0.5, "achieved": 0.5}
        identity = {key: run.record()[key] for key in ("run_id", "kind", "spec")}
        result = {"score": 0.5, "curve": [], "sparsity": sparsity, "layers": []}
        folder.finish(result | identity | {"provenance": {"wall_s": 1.0}})
        return folder, run.spec

    a_run("rl", algo="dqn")
    folder, spec = a_run(
        "crl",
        share="reuse",
        net_arch=[16, 16],
        sparse={"method": "static", "sparsity": 0.75, "distribution": "uniform"},
        seed=3,
    )
    assert isinstance(spec, CRLSpec)
    model = make_model(spec.resolve())
    for label in range(2):
        begin_task(model, label)
    model.policy.end_task()  # type: ignore[union-attr]
    save(model, folder.output)
    code, out, err = program("reused")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "seed 3, task 0: 0.0% reused, 0.0% held before"
    assert lines[1].startswith("seed 3, task 1: ") and lines[1].endswith(" 25.0% held before")
