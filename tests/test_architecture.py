"""The contracts of `pyproject.toml` hold: imports run downwards, files make no circle."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
PACKAGES = ("sparse_core", "envs", "dstrl", "continual", "supervised", "sweeps")


def lint(folder):
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def add_import(folder, module, line):
    path = folder / (module.replace(".", "/") + ".py")
    path.write_text(f"{path.read_text()}\n{line}\n")


def test_the_contracts_hold():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("sparse_core.kernels.pack", "import sparse_core.weights.tensor", "rooms of sparse_core"),
        ("dstrl.policies.roles", "import dstrl.runs.spec", "rooms of dstrl"),
        ("continual.tasks.task", "import continual.runs.spec", "rooms of continual"),
        ("sparse_core.budgets.ranking", "import sparse_core.budgets.structure", "No circle"),
        ("sweeps.store.directory", "import torch", "sweep driver"),
        ("sweeps.results.stats", "import sweeps.report.page", "rooms of sweeps"),
        ("envs.dynamics", "import dstrl.seeds", "downwards only"),
    ],
)
def test_a_wrong_import_breaks_one(copy, module, line, contract):
    add_import(copy, module, line)
    done = lint(copy)
    assert done.returncode == 1
    assert any(contract in text and "BROKEN" in text for text in done.stdout.splitlines())


def test_the_map_names_files_that_exist():
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"\b[a-z_]+(?:/[a-z_]+)+(?:\.py|/)", text))
    rooms = [ROOT, ROOT / "sparse_core"]
    missing = [name for name in named if not any((room / name).exists() for room in rooms)]
    assert len(named) > 20 and not missing
