"""The recipes of CONTRIBUTING, followed: a figure of the report, and a kind of run."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sparse_core.checks import InputError
from sweeps.figures import registry
from sweeps.language.grid import Grid, parse
from sweeps.report.page import Report
from sweeps.results.tables import results_table
from sweeps.runs import worker
from sweeps.store.directory import RunDir, prepare
from tests.recipes import blocks_of
from tests.sweeps.reports import Page

FIGURE, LINE = blocks_of("A new figure of the report")
LAB = f"""
{FIGURE}
import dataclasses
from sweeps.language.kinds import Kind

@dataclasses.dataclass(frozen=True)
class Bricks:
    height: float = 1.0
    seed: int = 0

def build(spec, out, progress):
    progress(0.5, {{"height": spec.height}})
    sparsity = {{"requested": 0.0, "achieved": 0.0}}
    height = spec.height + spec.seed
    return {{"score": height, "curve": [[1, height]], "sparsity": sparsity, "layers": []}}

def squared(result):
    return result["score"] ** 2

def broken(*anything):
    raise ValueError("no\\nbricks")

def silent(sheet):
    return "nothing to draw"

def mute(sheet):
    return None

number = 3
BRICKS = Kind(
    spec="reclab:Bricks",
    runner="reclab:build",
    title="Bricks",
    score="height (m)",
    extra=(("reclab:squared", "height squared"),),
    figures=("reclab:spread",),
)
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module outside the repository."""
    (tmp_path / "reclab.py").write_text(LAB)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("reclab", None)


def report(grid: Grid, place: Path, figures: Sequence[str] = (), do: bool = True) -> Report:
    """Do the runs of a grid and write their report."""
    folders = {run.run_id: RunDir(place / run.run_id) for run in grid.runs}
    for run in grid.runs:
        prepare(folders[run.run_id], run.record())
        if do:
            assert worker.execute(folders[run.run_id]) == worker.DONE
    made = Report(grid, folders, figures)
    made.write(place)
    return made


def bricks(**fields: str) -> Grid:
    """Return a grid whose kind has these fields, all others as `reclab:BRICKS` has them."""
    own = {"spec": "'reclab:Bricks'", "runner": "'reclab:build'", **fields}
    kind = ", ".join(f"{name}: {value}" for name, value in own.items())
    return parse(f"name: a\nkinds: {{bricks: {{{kind}}}}}\nkind: bricks")


def test_a_kind_is_a_spec_a_runner_and_a_line(lab: Path) -> None:
    made = report(parse("name: a\nkind: reclab:BRICKS\ngrid: {height: [1, 2]}\nseeds: 2"), lab)
    table = results_table(made.summaries[0])
    assert table.header[:5] == (
        "height",
        "seeds",
        "mean [95% t]",
        "height squared",
        "sparsity reached",
    )
    assert [(row[0], row[2].partition(" ")[0], row[3]) for row in table.rows] == [
        ("1", "1.50", "2.50"),
        ("2", "2.50", "6.50"),
    ]
    page = Page((lab / "report.html").read_text())
    assert page.open == [] and "Bricks" in page.text


def panels(page: Page) -> list[str]:
    """Return what the panels of a page say."""
    return page.attributes("aria-label")


def test_a_kind_has_figures_of_its_own(lab: Path) -> None:
    report(parse("name: a\nkind: reclab:BRICKS"), lab)
    page = Page((lab / "report.html").read_text())
    assert panels(page)[-1] == "reclab:BRICKS"
    assert page.text.count("Boxes of the height (m). 1 seed each.") == 0
    assert page.text.count("Boxes of the height (m).") == 1
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))


def test_a_figure_of_every_kind_is_a_file_and_a_line(
    monkeypatch: pytest.MonkeyPatch, toys: Callable[[str], Grid], tmp_path: Path
) -> None:
    module = types.ModuleType("sweeps.figures.spread")
    exec(FIGURE, vars(module))
    monkeypatch.setitem(sys.modules, "sweeps.figures.spread", module)
    found: dict[str, Any] = dict(vars(registry))
    for name, figure in eval(f"{{{LINE}}}", found).items():
        monkeypatch.setitem(registry.FIGURES, name, figure)
    report(toys("kind: toy\ngrid: {task: [tower, bridge]}"), tmp_path, ["spread"])
    page = Page((tmp_path / "report.html").read_text())
    assert panels(page) == ["tower", "bridge"]
    assert page.text.count("Boxes of the final height (m).") == 1


def test_a_figure_with_nothing_to_draw_is_left_out(lab: Path) -> None:
    report(parse("name: a\nkind: reclab:BRICKS"), lab, do=False)
    assert panels(Page((lab / "report.html").read_text())) == []
    report(bricks(figures="['reclab:silent']"), lab / "other", ["reclab:silent"])
    assert panels(Page((lab / "other/report.html").read_text())) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"figures": "['reclab:number']"},
            r"^kinds.bricks.figures='reclab:number': is an int in 'reclab' \(.*reclab.py\), must "
            r"be a function draw\(sheet\)",
        ),
        (
            {"figures": "['reclab:build']"},
            r"^kinds.bricks.figures='reclab:build': is a function in",
        ),
        ({"figures": "['reclab:none']"}, r"has no 'none'; it must be a function draw\("),
        ({"figures": "spread"}, r"^kinds.bricks.figures='spread': must be a list"),
        (
            {"extra": "[['reclab:number', x]]"},
            r"^kinds.bricks.extra='reclab:number': is an int in 'reclab'",
        ),
        (
            {"runner": "'reclab_none:build'"},
            r"^kinds.bricks.runner='reclab_none:build': there is no module 'reclab_none'",
        ),
        ({"player": "watch"}, r"^kinds.bricks.player='watch': must be package.module:NAME of"),
    ],
)
def test_what_is_no_figure_or_measure_is_refused_before_anything_runs(
    lab: Path, fields: dict[str, str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        bricks(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"figures": "['reclab:broken']"},
            r"^figures='reclab:broken': failed: ValueError: no bricks \(.*reclab.py, line \d+\); ",
        ),
        (
            {"figures": "['reclab:mute']"},
            r"^figures='reclab:mute': returned a NoneType, must return its caption$",
        ),
        (
            {"extra": "[['reclab:broken', x]]"},
            r"^extra='reclab:broken': failed on run [0-9a-f]{12}: ValueError: no bricks$",
        ),
    ],
)
def test_one_that_fails_is_named_in_one_line_and_results_are_kept(
    lab: Path, fields: dict[str, str], said: str
) -> None:
    grid = bricks(**fields)
    with pytest.raises(InputError, match=said) as caught:
        report(grid, lab)
    assert "\n" not in str(caught.value)
    assert RunDir(lab / grid.runs[0].run_id).result() is not None
