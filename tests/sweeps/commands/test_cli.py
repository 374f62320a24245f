"""`dst` as a command: what it does, and what its help says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from sweeps import cli
from sweeps.commands.listing import LISTINGS
from sweeps.commands.options import first_paragraph
from sweeps.language.kinds import KINDS
from sweeps.store.directory import RunDir

Dst = Callable[..., subprocess.CompletedProcess[str]]
GridFile = Callable[[str], Path]
RunsOf = Callable[[Path], list[RunDir]]
Here = Callable[..., tuple[int, str, str]]


def test_a_sweep_runs_reports_and_then_has_nothing_to_do(
    tmp_path: Path, here: Here, grid_file: GridFile, runs_of: RunsOf
) -> None:
    grid = grid_file("kind: toy\ngrid: {sparse.method: [dense, set]}\nseeds: 2")
    code, out, err = here("sweep", "run", grid, "--jobs", "1")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "toys: 4 runs, 4 to do, 1 at a time, threads of each: 1"
    assert sum(line.startswith("[") for line in lines) == 4
    assert "10.2 [3.9, 16.6]" in out
    assert lines[-1] == "report: runs/toys/report.html"
    assert (tmp_path / "runs/toys/report.html").exists()
    code, out, err = here("sweep", "run", grid)
    assert (code, err) == (0, "")
    assert out.startswith("toys: 4 runs, 0 to do, ")
    assert "/4]" not in out
    assert [run.attempts() for run in runs_of(grid)] == [1] * 4


def test_a_failed_run_is_named_with_the_end_of_its_log(here: Here, grid_file: GridFile) -> None:
    grid = grid_file("kind: toy\ngrid: {fate: [fine, raise]}")
    code, out, err = here("sweep", "run", grid)
    assert code == 1
    assert "FAILED toy tower: raise, seed 0: RuntimeError: the tower fell over" in err
    assert "  | RuntimeError: the tower" in err
    assert "1 of 2 runs have no result" in out
    assert "report: runs/toys/report.html" in out


def test_a_run_with_wrong_input_is_one_line(here: Here, grid_file: GridFile) -> None:
    code, _, err = here("sweep", "run", grid_file("kind: toy\nbase: {fate: refuse}"))
    assert code == 1
    (line,) = err.strip().splitlines()
    assert line.startswith("FAILED toy tower")
    assert line.endswith("InputError: task='tower': cannot be built")


def test_the_status_is_that_of_the_files(here: Here, grid_file: GridFile, runs_of: RunsOf) -> None:
    grid = grid_file("kind: toy\ngrid: {fate: [fine, raise]}")
    code, out, _ = here("sweep", "status", grid)
    assert code == 0
    assert out.splitlines()[-1] == "toys: 2 runs: 2 pending, 0 running, 0 done, 0 failed"
    here("sweep", "run", grid)
    code, out, _ = here("sweep", "status", grid, "--watch")
    assert code == 1
    assert out.splitlines()[-1].endswith("0 pending, 0 running, 1 done, 1 failed")
    runs_of(grid)[0].path.joinpath("result.json").write_text("{}")
    _, out, _ = here("sweep", "status", grid)
    assert out.splitlines()[-1].endswith("1 pending, 0 running, 0 done, 1 failed")


def test_a_report_can_be_had_at_any_time(tmp_path: Path, here: Here, grid_file: GridFile) -> None:
    code, out, _ = here("sweep", "report", grid_file("kind: toy"), "--runs-dir", "else where")
    assert code == 0
    assert "1 of 1 runs have no result" in out
    assert (tmp_path / "else where/toys/report.html").exists()


NEEDED = """
import contextlib, io, json, sys
from sweeps import cli
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        cli.main(words)
    heavy = {"torch", "numba", "stable_baselines3", "avalanche", "pandas"}.intersection(sys.modules)
    print(words, sorted(heavy), "sweeps.language.kinds" in sys.modules)
"""


def test_status_and_help_need_no_torch(tmp_path: Path) -> None:
    kinds = [["train", kind, "--help"] for kind in KINDS]
    lists = [["list", name] for name in LISTINGS]
    words = [["sweep", "status", "quickstart"], ["--help"], *kinds, *lists]
    done = subprocess.run(
        [sys.executable, "-c", NEEDED, json.dumps(words)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [f"{each} [] True" for each in words]


WATCHED = """
import os, sys
class Watch:
    def find_spec(self, name, *rest):
        if name in ("numpy", "torch"):
            print(name, os.environ.get("OPENBLAS_NUM_THREADS"), os.environ.get("OMP_NUM_THREADS"))
sys.meta_path.insert(0, Watch())
from sweeps import cli
cli.main(sys.argv[1:])
"""


def test_threads_are_settled_before_numerical_libraries_are_loaded(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "THREADS" not in name}
    words = "--env Acrobot-v1 --steps 8 --threads 2 --hyper.n_steps 8 --eval-episodes 1 --out x"
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, "train", "rl", *words.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = [line for line in done.stdout.splitlines() if line.startswith(("numpy", "torch"))]
    assert loaded == ["numpy 1 1", "torch 2 2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--help", "dst train rl --env CartPole-v1"),
        ("sweep --help", "do all runs without a result"),
        ("sweep run --help", "--timeout S"),
        ("train --help", "continual learning: one run"),
        ("train rl --help", "--sparse.sparsity FLOAT"),
        ("train rl --help", "--hyper.KEY VALUE"),
        ("list --help", "one of methods, growth, drop, distributions, presets, envs, benchmarks,"),
        ("--version", f"dst {metadata.version('dstrl')}"),
        ("train cl --help", "--benchmark STR"),
        ("train --help", "crl continual reinforcement learning: one run"),
        ("train crl --help", "--sequence STR"),
        ("train crl --help", "--alone, --no-alone"),
        ("train crl --help", "--hyper.KEY VALUE"),
        ("train cl --help", "--out {None}|PATH"),
    ],
)
def test_help_says_what_there_is(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        cli.main(words.split())
    captured = capsys.readouterr()
    assert (ending.value.code, captured.err) == (0, "")
    assert said in " ".join(captured.out.split())


def test_without_a_command_there_is_help(here: Here) -> None:
    code, out, err = here()
    assert (code, err) == (2, "")
    assert out.startswith("usage: dst")


def test_directories_can_be_prepared_for_any_scheduler(
    here: Here, grid_file: GridFile, runs_of: RunsOf
) -> None:
    grid = grid_file("kind: toy\nseeds: 2")
    code, out, err = here("sweep", "prepare", grid)
    assert (code, err) == (0, "")
    assert [Path(line).absolute() for line in out.splitlines()] == [r.path for r in runs_of(grid)]
    for line in out.splitlines():
        subprocess.run([sys.executable, "-m", "sweeps.runs.worker", line], check=True)
    assert here("sweep", "run", grid)[1].startswith("toys: 2 runs, 0 to do")


def test_where_data_lies_is_told_to_workers_but_is_not_part_of_a_run(
    tmp_path: Path, dst: Dst, grid_file: GridFile, runs_of: RunsOf
) -> None:
    grid = grid_file("kind: toy")
    grid.write_text(
        grid.read_text().replace(
            "tests.sweeps.toys:run", "tests.sweeps.commands.test_cli:show_data"
        )
    )
    (tmp_path / "sets").mkdir()
    assert dst("sweep", "run", grid, "--data", "sets").returncode == 0
    (run,) = runs_of(grid)
    result = run.result()
    assert result is not None and result["data"] == str(tmp_path / "sets")
    assert "sets" not in json.dumps(run.record())


def show_data(spec: object, out: Path, progress: object) -> dict[str, object]:
    """Return, as a run's result, where data lies."""
    sparsity = {"requested": 0.0, "achieved": 0.0}
    data = os.environ["DST_DATA"]
    return {"score": 0.0, "curve": [], "sparsity": sparsity, "layers": [], "data": data}


@pytest.mark.parametrize(
    ("box", "line"),
    [
        (
            "╭─ Value error ───────────────────╮\n"
            "│ Error parsing --steps: invalid  │\n│ literal for int(): 'x'          │\n"
            "│ ─────────────────────────────── │\n│ For full helptext, see --help   │\n"
            "╰─────────────────────────────────╯\n",
            "--steps: invalid literal for int(): 'x'",
        ),
        (
            " Value error \n ------------ \n  Error parsing spec.sparse: sparsity=2.0: must be  \n"
            "  in [0, 1)  \n               \n  Got errors:  \n",
            "sparse.sparsity=2.0: must be in [0, 1)",
        ),
        (
            "\x1b[31m╭─\x1b[0m Missing ─╮\n\x1b[31m│\x1b[0m Missing value. │",
            "Missing value.",
        ),
    ],
)
def test_boxes_become_one_line(box: str, line: str) -> None:
    assert first_paragraph(box) == line
