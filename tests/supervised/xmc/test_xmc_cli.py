"""`dst train xmc` and a grid, from end to end."""

from __future__ import annotations

import json

import pytest

from sweeps.cli import main
from sweeps.language.grid import parse
from tests.supervised.planted import write

OPTIONS = "--dataset planted --sparse.method static --epochs 2 --batch-size 32 --out run"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch, tmp_path):
    monkeypatch.delenv("DST_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "xmc" / "planted_data.txt", 120)


def test_a_run_says_what_came_out(capsys, tmp_path):
    words = f"train xmc {OPTIONS} --data . --sparse.sparsity 0.8 --propensity 0.5 0.4"
    assert main(words.split()) == 0
    said = capsys.readouterr().out
    for heading in ("P@1 (%)", "P@5 (%)", "nDCG@3 (%)", "PSP@1 (%)", "sparsity"):
        assert heading in said
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["kind"] == "xmc" and result["spec"]["propensity"] == [0.5, 0.4]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "data=None: set DST_DATA (or data) to a folder that holds xmc/bibtex_data.txt"),
        ("--data .", "no data set 'bibtex' there; expected bibtex_data.txt, "),
        ("--data . --dataset planted --loss hinge", "loss='hinge': must be one of squared_hinge"),
        ("--data . --dataset broken", "broken_data.txt': line 3: '7': the header says 5 labels"),
        ("--data . --dataset bare", "bare_data.txt': line 2: a sample without labels, one of 1"),
    ],
)
def test_wrong_input_is_one_line(words, said, capsys, tmp_path):
    (tmp_path / "broken_data.txt").write_text("2 3 5\n1 0:1\n7 1:1\n")
    (tmp_path / "bare_data.txt").write_text("2 2 5\n 0:1\n1 1:1\n")
    assert main(["train", "xmc", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("dst: ") and err.count("\n") == 1 and said in err
    assert not (tmp_path / "runs").exists()


def test_a_grid_compares_methods_on_one_data_set():
    grid = parse(
        "name: x\nkind: xmc\nbase: {sparse.sparsity: 0.97}\n"
        "grid: {sparse.method: [dense, static, rigl], intermediate: [null, 64]}\nseeds: 2"
    )
    assert len(grid.runs) == 12
    assert {run.spec.sparse.backend for run in grid.runs} == {"auto", "masked"}
