"""`docs/own_tasks.md`, followed: its module, its commands and its grid."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from continual.runs.train import run
from sweeps.cli import main
from sweeps.language.grid import load_grid

PAGE = (Path(__file__).parents[2] / "docs" / "own_tasks.md").read_text(encoding="utf-8")
SMALL = ["--epochs", "1", "--sparse.sparsity", "0.8"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (grid,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "mylab.py").write_text(code)
    (tmp_path / "clouds.yaml").write_text(grid)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("mylab", None)


COMMANDS = re.findall(r"^    dst (.*)$", re.sub(r"\\\n\s*", "", PAGE), re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.filterwarnings("ignore:update_every")
def test_the_commands_run(command, folder, capsys):
    assert main([*command.split(), *SMALL, "--sparse.update-every", "1", "--out", "run"]) == 0
    assert "final average accuracy, tasks known (%)" in capsys.readouterr().out
    result = json.loads((folder / "run" / "result.json").read_text())
    assert len(result["accuracy_matrix"]) in (2, 3)


def test_the_grid_names_four_settings_and_a_metric(folder):
    grid = load_grid("clouds.yaml")
    assert len(grid.runs) == 12
    assert {run.spec.network for run in grid.runs} == {"mlp", "mylab:Branches"}
    spec = dataclasses.replace(grid.runs[0].spec, epochs=1)
    result = run(spec, folder, lambda done, numbers: None)
    measured = result["measured"]["mylab:worst_task"]["worst_task"]
    assert measured == min(result["accuracy_matrix"][-1])
