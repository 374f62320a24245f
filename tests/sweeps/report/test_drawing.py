"""What figures draw: fronts, scales, channels and heat maps, and that every figure can be drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from sparse_core.checks import InputError
from sweeps import cli
from sweeps.figures import registry
from sweeps.figures.costs import pareto
from sweeps.figures.curves import short_name
from sweeps.figures.exploration import explored
from sweeps.figures.looks import Looks, channels
from sweeps.figures.normalised import scales
from sweeps.figures.sheet import Sheet, fold_labels
from sweeps.language.grid import Grid
from sweeps.report.page import Report
from sweeps.results.facts import Layer
from sweeps.results.summary import Summary, collect, summarise
from sweeps.store.directory import RunDir
from tests.sweeps.reports import Page, finished

Toys = Callable[[str], Grid]
Folders = Callable[[Grid], list[RunDir]]
MORE = {
    "accuracy_matrix": [[0.9], [0.8, 0.7]],
    "overlap": [[1.0, 0.2], [0.2, 1.0]],
    "forgetting": 0.1,
    "capacity_used": 0.4,
    "curves": [[[1, 0.2], [2, 0.5]], [[1, 0.1], [2, 0.4]]],
    "flops": {"dense": 100, "tasks": [10, 20]},
    "bytes": {"dense": 100, "sparse": 40},
    "layers": [
        {
            "name": "net.0.weight",
            "active": 10,
            "total": 100,
            "neurons": 10,
            "live": 8,
            "explored": 0.3,
        },
        {"name": "net.2.weight", "active": 50, "total": 50},
    ],
}


def drawn(grid: Grid, runs: dict[str, RunDir], folder: Path, *names: str) -> list[str]:
    return Page(Report(grid, runs, names).write(folder).read_text()).attributes("aria-label")


def summary_of(grid: Grid, runs: dict[str, RunDir]) -> Summary:
    return summarise(collect(grid.runs, runs, ("random_score",)))[0]


def amend(runs: dict[str, RunDir], **more: Any) -> None:
    for folder in runs.values():
        result = folder.result()
        assert result is not None
        folder.finish(result | more)


def test_every_figure_is_drawn_where_there_is_something_to_draw(
    toys: Toys, folders: Folders, tmp_path: Path
) -> None:
    grid = toys(
        "kind: toy\nseeds: 2\ngrid: {sparse.method: [dense, set], sparse.sparsity: [0.5, 0.9], "
        "rate: [1, 2]}"
    )
    runs = finished(grid, folders(grid))
    amend(runs, **MORE)
    amend({run.run_id: runs[run.run_id] for run in grid.runs[:2]}, flops={"sparse": 100})
    for name in registry.FIGURES:
        said = drawn(grid, runs, tmp_path / name, name)
        assert bool(said) == (name not in ("further", "popularity")), name
    assert drawn(grid, runs, tmp_path / "matrix", "accuracy")[0].endswith("last line: 80.0, 70.0")
    (kept, *_) = drawn(grid, runs, tmp_path / "kept", "kept")
    assert kept.startswith("Forgetting (%): tower, rate=1") and "set 10" in kept


def test_the_front_holds_what_nothing_cheaper_reaches() -> None:
    points = [(3.0, 5.0), (1.0, 2.0), (2.0, 1.0), (3.0, 4.0), (4.0, 5.0), (5.0, 6.0)]
    assert pareto(points) == [(1.0, 2.0), (3.0, 5.0), (5.0, 6.0)]


def test_exploration_counts_layers_by_their_weights() -> None:
    layers = [Layer("a", 1, 100, explored=0.5), Layer("b", 1, 300, explored=0.1), Layer("c", 1, 9)]
    assert explored(layers) == pytest.approx((50 + 30) / 400)
    assert explored([Layer("c", 1, 9)]) is None


@pytest.mark.parametrize(
    ("shift", "chance", "said", "values"),
    [
        (0.0, None, "0 is zero, 1 the dense mean", [1.0, 0.9]),
        (-20.0, None, "0 is the worst run, 1 the dense mean", [1.0, 0.0]),
        (-20.0, -30.0, "0 is random actions, 1 the dense mean", [1.0, 0.95]),
    ],
)
def test_negative_scores_are_no_share_of_the_dense_one(
    toys: Toys, folders: Folders, shift: float, chance: float | None, said: str, values: list[float]
) -> None:
    grid = toys("kind: toy\ngrid: {sparse.method: [dense, set]}")
    runs = finished(grid, folders(grid))
    for folder in runs.values():
        result = folder.result()
        assert result is not None
        more = {} if chance is None else {"random_score": chance}
        folder.finish(result | more | {"score": result["score"] + shift})
    summary = summary_of(grid, runs)
    scale = scales(summary)["tower"]
    assert scale.said == said
    assert [float(scale.of(row.scores)[0]) for row in summary.rows] == pytest.approx(values)


def test_channels_follow_the_axes_of_the_grid(toys: Toys, folders: Folders) -> None:
    grid = toys(
        "kind: toy\nbase: {sparse.sparsity: 0.5}\ngrid: {sparse.method: [dense, set, static], "
        "sparse.distribution: [erk, uniform], rate: [1, 2], note: [a, b]}"
    )
    summary = summary_of(grid, {run.run_id: RunDir(Path("nowhere")) for run in grid.runs})
    found = channels(summary)
    assert (found.colour, found.line) == ("sparse.method", "sparse.distribution")
    assert set(found.panel) == {"rate", "note"}
    looks = Looks(summary, found)
    assert len({looks.of(row).colour for row in summary.rows}) == 3
    assert len({str(looks.of(row).line) for row in summary.rows if not row.baseline}) == 2
    plain = toys("kind: toy\ngrid: {note: [a, b], rate: [1, 2, 3]}")
    summary = summary_of(plain, {run.run_id: RunDir(Path("nowhere")) for run in plain.runs})
    assert {channels(summary).colour, channels(summary).line} == {"note", "rate"}


def test_panels_without_room_are_counted(toys: Toys, folders: Folders, tmp_path: Path) -> None:
    grid = toys(f"kind: toy\ngrid: {{task: [{', '.join(f't{i}' for i in range(12))}]}}")
    runs = finished(grid, folders(grid))
    report = Report(grid, runs, ["scores"])
    page = Page(report.write(tmp_path / "out").read_text())
    assert len(page.attributes("aria-label")) == 9
    assert "Shown are 9 of 12 panels" in page.text
    assert report.write_figures(tmp_path / "figures", "svg") == 12
    assert Sheet(report.summaries[0], 2).parts()[1].title == "t1"


@pytest.mark.parametrize(
    ("form", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")]
)
def test_the_command_writes_files(
    toys: Toys,
    grid_file: Callable[[str], Path],
    folders: Folders,
    tmp_path: Path,
    form: str,
    start: bytes,
) -> None:
    text = "kind: toy\ngrid: {sparse.method: [dense, set]}\nseeds: 2"
    finished(toys(text), folders(toys(text)))
    words = ["sweep", "report", str(grid_file(text)), "--runs-dir", str(tmp_path / "runs")]
    assert cli.main([*words, "--figures", form, "--figure", "scores"]) == 0
    (file,) = (tmp_path / "runs/toys/figures").iterdir()
    assert file.name == f"toy-scores-1.{form}" and file.read_bytes().startswith(start)


def test_unknown_figures_are_refused(toys: Toys, folders: Folders) -> None:
    grid = toys("kind: toy")
    with pytest.raises(InputError, match=r"^figures='pie': must be one of scores, sparsity, "):
        Report(grid, finished(grid, folders(grid)), ["pie"])


def test_a_name_that_is_longer_than_its_axis_is_folded_and_has_the_room() -> None:
    figure = Figure(figsize=(4.3, 3.0))
    short, long = figure.add_axes((0.15, 0.1, 0.3, 0.7)), figure.add_axes((0.6, 0.1, 0.3, 0.7))
    short.set_ylabel("score")
    long.set_ylabel("final average accuracy, tasks known (%)")
    fold_labels(figure)
    assert short.get_ylabel() == "score" and short.get_position().x0 == pytest.approx(0.15)
    assert long.get_ylabel().splitlines() == ["final average accuracy, tasks", "known (%)"]
    assert long.get_position().x0 > 0.6 and long.get_position().x1 == pytest.approx(0.9)


def test_the_unit_stays_where_a_name_is_cut() -> None:
    assert short_name("mean performance, 0 before a task begins (%)") == "mean performance (%)"
    assert short_name("evaluation return (mean over episodes)") == "evaluation return"
    assert short_name("height (m)") == "height (m)"


def test_where_room_is_short_every_task_has_a_panel(toys: Toys, folders: Folders) -> None:
    text = "kind: toy\ngrid: {task: [a, b], sizes: [[1], [2], [3]], note: [x, y], rate: [1, 2]}"
    grid = toys(text)
    runs = finished(grid, folders(grid))
    sheet = Sheet(summary_of(grid, runs), 4)
    everything = Sheet(summary_of(grid, runs), 99).parts()
    chosen = sheet.parts()
    assert [part.task for part in chosen] == ["a", "a", "b", "b"]
    assert [part.title for part in chosen] == [
        part.title for part in everything if part.title in {it.title for it in chosen}
    ]
    assert sheet.left_out == len(everything) - 4


def test_scores_share_their_limits_within_a_task(toys: Toys, folders: Folders) -> None:
    grid = toys("kind: toy\ngrid: {task: [a, b], note: [x, y]}\nseeds: 2")
    sheet = Sheet(summary_of(grid, finished(grid, folders(grid))))
    parts = sheet.parts()
    drawn = [(sheet.panel(task), dataclasses.replace(parts[0], task=task)) for task in "aab"]
    for (plot, _), high in zip(drawn, (1.0, 2.0, 5.0), strict=True):
        plot.set_ylim(0, high)
    sheet.share_scores("y", drawn)
    assert [plot.get_ylim()[1] for plot, _ in drawn] == [2.0, 2.0, 5.0]
