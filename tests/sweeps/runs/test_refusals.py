"""What only the libraries of runs can tell is refused before any run, naming the cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sparse_core.checks import InputError
from sweeps.language.grid import parse
from sweeps.runs.refusals import refusals
from tests.sweeps.toys import ToySpec

GRID = f"""
name: narrow
kinds: {{narrow: {{spec: "{__name__}:Narrow", runner: "tests.sweeps.toys:run"}}}}
kind: narrow
"""


@dataclass(frozen=True)
class Narrow(ToySpec):
    """A toy that has to be slow."""

    def refused_by(self) -> str:
        return f"{__name__}:check" if self.rate > 1 else ""


def check(spec: Narrow) -> None:
    if spec.rate > 2:
        raise InputError(f"rate={spec.rate}: must be at most 2, by this library", field="rate")


def test_each_run_is_asked_about_and_those_without_need_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = parse(f"{GRID}\ngrid: {{rate: [0.5, 1.5, 3]}}").runs
    said = "rate=3.0: must be at most 2, by this library"
    assert refusals(runs) == ["", "", said]
    monkeypatch.setattr("sweeps.runs.refusals.subprocess.run", lambda *_, **__: pytest.fail("ran"))
    assert refusals(runs[:1]) == [""]


def test_a_grid_with_such_a_cell_makes_no_folder(
    tmp_path: Path, here: Callable[..., tuple[int, str, str]]
) -> None:
    grid = tmp_path / "narrow.yaml"
    grid.write_text(f"{GRID}\ngrid: {{rate: [0.5, 3, 4]}}\nseeds: 2")
    for words in (["run"], ["plan"]):
        code, _, err = here("sweep", *words, grid)
        assert code == 2
        assert "narrow: rate=3 (and 1 more cell): rate=3.0: must be at most 2" in err
    assert not (tmp_path / "runs").exists()
