"""Large layers measured small: what records hold, and planted edges where their number is known."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
from pathlib import Path

import pytest

from sweeps.bench import large, planted


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each layer be trained here; the program starts a process for each."""

    launch = subprocess.run

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        if "--here" not in command:
            return launch(command, **options)  # type: ignore[call-overload,no-any-return]
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            assert large.main(command[command.index("--here") :]) == 0
        return subprocess.CompletedProcess(command, 0, said.getvalue())

    monkeypatch.setattr(large.subprocess, "run", run)


@pytest.mark.usefixtures("in_this_process")
def test_a_large_layer_is_born_trained_and_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--labels 300 600 --fan-in 4 --batch 3 --steps 4 --every 2 --json FILE"
    assert large.main(words.replace("FILE", str(tmp_path / "out.json")).split()) == 0
    records = json.loads((tmp_path / "out.json").read_text())["records"]
    assert [(r["labels"], r["growth"]) for r in records] == [
        (labels, growth) for labels in (300, 600) for growth in ("random", "candidates")
    ]
    for record in records:
        assert (record["fan_in"], record["batch"], record["steps"]) == (4, 3, 4)
        assert record["updates"] == 2
        assert all(record[key] > 0 for key in ("birth_s", "step_s", "plain_s", "peak_mib"))
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_memory_is_drawn_against_labels(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    records = [
        {"labels": labels, "growth": growth, "peak_mib": 400 + labels / 1000}
        for labels in (10_000, 100_000)
        for growth in ("random", "candidates")
    ]
    for name in ("one", "other"):
        large.plot(records, tmp_path / f"{name}.svg")
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn.count("<svg") == 1 and drawn == (tmp_path / "other.svg").read_text()


def test_a_fan_in_above_the_labels_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        large.main("--labels 100 20 --fan-in 32".split())
    assert "--fan-in 32: must be at most --labels" in capsys.readouterr().err


@pytest.mark.parametrize("rule", list(planted.RULES))
def test_a_topology_that_has_every_edge_has_the_planted_ones(rule: str) -> None:
    found = planted.run(rule, labels=16, seed=0, steps=2, batch=4)
    assert found["found"] == pytest.approx(1) and 0 <= found["precision"] <= 1


def test_planted_models_are_told_by_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--labels", "16", "--seeds", "2", "--steps", "1", "--batch", "2", "--rules", "static"]
    assert planted.main([*words, "--json", str(tmp_path / "out.json")]) == 0
    records = json.loads((tmp_path / "out.json").read_text())["records"]
    assert [(r["rule"], r["seed"]) for r in records] == [("static", 0), ("static", 1)]
    assert "100.0 [100.0, 100.0]" in capsys.readouterr().out
