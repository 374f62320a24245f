"""The example of one's own code, from a copy outside the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_core.imports import load
from sweeps.language.grid import load_grid

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "own_code"
DST = "import sys; from sparse_core.command import main; sys.exit(main())"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(EXAMPLE, tmp_path / "own"))


@pytest.fixture
def here(folder, monkeypatch):
    """The current folder, which modules are imported from."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    names = [file.stem for file in folder.glob("*.py")]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in names:
        sys.modules.pop(name, None)


def dst(folder, *words):
    done = subprocess.run(
        [sys.executable, "-P", "-c", DST, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(EXAMPLE.parents[1])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shorten(folder):
    """Make the grid a matter of seconds, without runs of another kind."""
    file = folder / "grid.yaml"
    text = file.read_text()
    for old, new in (
        ("steps: 10_000, eval_every: 1_000", "steps: 600, eval_every: 600, eval_episodes: 1"),
        ("hyper.n_steps: 512", "hyper.n_steps: 128"),
        ("epochs: 5", "epochs: 2"),
        ("seeds: 3", "seeds: 1"),
    ):
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


EDITED = ("rules.py", "signals.py")


def edit(folder):
    for name in EDITED:
        with (folder / name).open("a") as file:
            file.write("\n# another version\n")


def test_a_rule_is_compared_with_ours_and_an_edited_file_makes_new_runs(folder, here):
    shorten(folder)
    grid = load_grid("grid.yaml")
    for number, run in enumerate(grid.runs):
        out = folder / str(number)
        out.mkdir()
        result = load("runner", run.kind.runner, "a runner")(run.spec, out, lambda *_: None)
        assert result["score"] is not None and result["curve"]
    edit(folder)
    others = load_grid("grid.yaml").runs
    same = [run.run_id == other.run_id for run, other in zip(grid.runs, others, strict=True)]
    assert same == [True, False, False, False]


@pytest.mark.slow
def test_the_commands_of_the_example(folder):
    shorten(folder)
    said = dst(folder, "sweep", "run", "grid.yaml", "--jobs", "1")
    assert "rules:relative_gradient" in said and "worlds:Beam" in said and "signals:waves" in said
    results = {path.parent: json.loads(path.read_text()) for path in folder.rglob("result.json")}
    assert len(results) == 4
    edit(folder)
    status = dst(folder, "sweep", "status", "grid.yaml")
    assert "3 pending, 0 running, 1 done" in status and "3 runs of earlier versions" in status
    assert results == {path: json.loads((path / "result.json").read_text()) for path in results}
