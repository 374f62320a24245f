"""The example of one's own code, from a copy outside the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "own_code"
DST = "import sys; from sparse_core.command import main; sys.exit(main())"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(EXAMPLE, tmp_path / "own"))


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
        ("epochs: 5", "epochs: 1"),
        ("seeds: 3", "seeds: 1"),
    ):
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


def test_a_rule_is_compared_with_ours_and_an_edited_file_makes_new_runs(folder):
    shorten(folder)
    said = dst(folder, "sweep", "run", "grid.yaml", "--jobs", "1")
    assert "rules:relative_gradient" in said and "worlds:Beam" in said and "signals:waves" in said
    results = {path.parent: json.loads(path.read_text()) for path in folder.rglob("result.json")}
    assert len(results) == 4
    with (folder / "rules.py").open("a") as file:
        file.write("\n# another version\n")
    with (folder / "signals.py").open("a") as file:
        file.write("\n# another version\n")
    status = dst(folder, "sweep", "status", "grid.yaml")
    assert "3 pending, 0 running, 1 done" in status and "3 runs of earlier versions" in status
    assert results == {path: json.loads((path / "result.json").read_text()) for path in results}
