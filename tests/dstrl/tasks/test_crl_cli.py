"""`dst train crl` and `dst sweep`: a run from end to end, resumed, reported; wrong input."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sweeps.cli import main
from sweeps.language.grid import load_grid

GRID = """
name: mine
kind: crl
base: {steps: 128, eval_every: 64, eval_episodes: 2, n_envs: 2, net_arch: [8, 8],
       hyper.n_steps: 32, hyper.n_epochs: 2, hyper.batch_size: 32, sparse.sparsity: 0.8}
grid: {isolation: [hard, none]}
"""
WORDS = (
    "train crl --steps 128 --eval-every 64 --eval-episodes 2 --n-envs 2 --net-arch 8 8 "
    "--hyper.n-steps 32 --hyper.n-epochs 2 --hyper.batch-size 32 --sparse.sparsity 0.8"
).split()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    """Work in a temporary directory, and give the environment back as it was."""
    for name in (*os.environ, "NUMBA_CACHE_DIR", "PYTHONFAULTHANDLER", "PYTHONUNBUFFERED"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("DST_DATA", raising=False)
    monkeypatch.delenv("DST_TRACK", raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_run_of_a_grid_is_done_once_and_reported(capsys):
    Path("mine.yaml").write_text(GRID)
    run, other = load_grid("mine.yaml").runs
    assert (run.spec.isolation, other.spec.isolation) == ("hard", "none")
    out = f"runs/mine/{run.run_id}"
    assert main([*WORDS, "--out", out]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for name in ("final mean", "forgetting (%) 0.000", "forward transfer", "capacity used"):
        assert name in said
    result = json.loads(Path(out, "result.json").read_text())
    assert [len(row) for row in result["matrix"]] == [1, 2, 3]
    assert Path(out, "output/model.zip").exists()
    progress = json.loads(Path(out, "progress.json").read_text())
    assert progress["done"] == 1 and progress["numbers"]["steps"] == 5 * 128
    assert main([*WORDS, "--out", out]) == 0
    assert "This run has its result already." in capsys.readouterr().out
    assert main(["sweep", "report", "mine.yaml"]) == 0
    assert "1 of 2 runs have no result" in capsys.readouterr().out
    page = Path("runs/mine/report.html").read_text()
    assert "Continual reinforcement learning" in page and "cartpole, ppo" in page
    for heading in ("isolation", "forgetting (%)", "forward transfer (%)", "capacity used (%)"):
        assert f"{heading}</th>" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--algo td3", "algo='td3': needs continuous actions"),
        ("--sparse.sparsity 0.3", "sequence='cartpole': of its 3 tasks only 1 have room"),
    ],
)
def test_what_only_running_can_find_is_one_line_too(words, said, capsys):
    assert main(["train", "crl", *words.split()]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("dst: ") and said in lines[0]
    assert not Path("runs").exists()
