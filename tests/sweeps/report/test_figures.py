"""Figures: which there are, what they are called and what they compare."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sweeps.figures.bands import common_curve
from sweeps.language.grid import Grid, parse
from sweeps.report.page import Report
from sweeps.results.summary import collect, summarise
from sweeps.results.tables import results_table
from sweeps.runs import worker
from sweeps.store.directory import RunDir, prepare
from tests.sweeps.reports import Page, finished, write_report
from tests.sweeps.toys import KIND

Toys = Callable[[str], Grid]
Folders = Callable[[Grid], list[RunDir]]


def test_each_task_and_setting_has_its_figure(toys: Toys, folders: Folders, tmp_path: Path) -> None:
    grid = toys(
        "kind: toy\nseeds: 1\n"
        "grid: {task: [tower, bridge], sparse.method: [dense, set], sparse.sparsity: [0.5, 0.9]}"
    )
    said = labels(grid, finished(grid, folders(grid)), tmp_path / "out", "scores")
    assert [label.partition(". ")[0] for label in said] == [
        "tower, sparsity=0.5",
        "tower, sparsity=0.9",
        "bridge, sparsity=0.5",
        "bridge, sparsity=0.9",
    ]
    for label in said:  # the dense runs, which have no sparsity, stand in each
        assert "final height (m), mean with 95% interval: dense: 10 (1); set: 9 (1)" in label


def test_figures_are_named_by_the_rules_in_force(tmp_path: Path) -> None:
    grid = parse(
        "name: rules\nblocks:\n"
        "- {kind: cl, grid: {sparse.method: [dense]}}\n"
        "- {kind: cl, base: {sparse.method: set}, grid: {sparse.growth: [random, unfired]}}\n"
        "- {kind: cl, base: {sparse.method: rigl}, grid: {sparse.growth: [gradient, momentum]}}\n"
    )
    runs = {run.run_id: RunDir(tmp_path / run.run_id) for run in grid.runs}
    for run, folder in zip(grid.runs, runs.values(), strict=True):
        prepare(folder, run.record())
        sparsity = {"requested": 0.9, "achieved": 0.9}
        result = {"score": 0.5, "curve": [[1, 0.5]], "sparsity": sparsity, "layers": []}
        identity = {key: run.record()[key] for key in ("run_id", "kind", "spec")}
        folder.finish(result | identity | {"provenance": {"wall_s": 1.0}})
    (said,) = labels(grid, runs, tmp_path / "scores", "scores")
    names = ("dense", "set random", "set unfired", "rigl gradient", "rigl momentum")
    assert said == (
        "permuted-digits, tasks=5. final average accuracy, tasks known (%), mean with 95% "
        "interval: " + "; ".join(f"{name}: 50 (1)" for name in names)
    )
    report = write_report(grid, tmp_path / "out", runs)
    rows = results_table(report.summaries[0]).rows
    assert [row[:2] for row in rows] == [
        ("dense", "-"),
        ("set", "random"),
        ("set", "unfired"),
        ("rigl", "gradient"),
        ("rigl", "momentum"),
    ]
    for name in ("runs.csv", "table.csv"):
        with report.path.with_name(name).open() as file:
            lines = list(csv.DictReader(file))
        assert [line["sparse.growth"] for line in lines] == ["", *(row[1] for row in rows[1:])]
        assert "None" not in report.path.with_name(name).read_text()


def test_every_run_is_compared_with_the_dense_one_that_is_like_it(
    toys: Toys, folders: Folders, tmp_path: Path
) -> None:
    grid = toys(
        "blocks:\n"
        "- {kind: toy, seeds: 2, grid: {sparse.method: [dense, set], sizes: [[1], [2]]}}\n"
        "- {kind: toy, seeds: 2, grid: {sparse.method: [dense], sizes: [[3]]}}\n"
        "- {kind: toy, seeds: 2, grid: {sparse.method: [set], sizes: [[4]]}}\n"
    )
    runs = finished(grid, folders(grid))
    report = write_report(grid, tmp_path / "out", runs)
    rows = {row.label: row.difference is not None for row in report.summaries[0].rows}
    assert rows == {
        "dense sizes=[1]": False,
        "dense sizes=[2]": False,
        "dense sizes=[3]": False,
        "set sizes=[1]": True,
        "set sizes=[2]": True,
        "set sizes=[4]": False,
    }
    (said,) = labels(grid, runs, tmp_path / "scores", "scores")
    assert "dense sizes=[1]: 10.25 [3.887, 16.61] (2); dense sizes=[2]: 10.25" in said
    assert "set sizes=[4]: 9.25 [2.887, 15.61] (2)" in said
    (said,) = labels(grid, runs, tmp_path / "differences", "differences")
    assert said == (
        "tower. set sizes=[1]: -1 [-1, -1], p 0.000; set sizes=[2]: -1 [-1, -1], p 0.000"
    )


def test_tuned_runs_are_compared_with_the_dense_one_whatever_was_tuned(
    toys: Toys, folders: Folders
) -> None:
    grid = toys(
        "tuned: {grid: mine, trials: 4, seeds: [9], fields: [rate]}\n"
        "blocks:\n"
        "- {kind: toy, seeds: 2, base: {sparse.method: dense, rate: 0.3}}\n"
        "- {kind: toy, seeds: 2, base: {sparse.method: set, rate: 0.1}}\n"
    )
    runs = finished(grid, folders(grid))
    dense, sparse = Report(grid, runs).summaries[0].rows
    assert dense.difference is None and sparse.difference is not None
    assert sparse.difference.value == -1 and sparse.difference.pairs == 2
    assert summarise(collect(grid.runs, runs))[0].rows[1].difference is None


def test_one_seed_has_no_interval(toys: Toys, folders: Folders) -> None:
    grid = toys("kind: toy\ngrid: {sparse.method: [dense, set]}")
    (summary,) = summarise(collect(grid.runs, finished(grid, folders(grid))))
    assert [row[1:3] for row in results_table(summary).rows] == [("1", "10.0"), ("1", "9.0")]


def test_differences_are_of_shared_seeds_alone(toys: Toys, folders: Folders) -> None:
    grid = toys("kind: toy\ngrid: {sparse.method: [dense, set]}\nseeds: 3")
    prepared = folders(grid)
    for index in (0, 1, 2, 4, 5):  # dense with all seeds, set with seeds 1 and 2
        worker.execute(prepared[index])
    runs = dict(zip([run.run_id for run in grid.runs], prepared, strict=True))
    dense, sparse = summarise(collect(grid.runs, runs))[0].rows
    assert dense.difference is None
    assert sparse.seeds == (1, 2)
    assert sparse.difference is not None
    assert (sparse.difference.value, sparse.difference.pairs) == (-1.0, 2)


def test_a_kind_can_show_another_curve(tmp_path: Path) -> None:
    text = f"name: toys\n{KIND}    curve: other\nkind: toy\nseeds: 2"
    grid = parse(text, "toys.yaml")
    folders = {run.run_id: RunDir(tmp_path / run.run_id) for run in grid.runs}
    for run, folder in zip(grid.runs, folders.values(), strict=True):
        prepare(folder, run.record())
    finished(grid, list(folders.values()))
    (row,) = summarise(collect(grid.runs, folders))[0].rows
    assert [curve.shape for curve in row.curves] == [(0, 2), (0, 2)]
    for folder in folders.values():
        result = folder.result()
        assert result is not None
        folder.finish(result | {"other": [[7.0, 8.0]]})
    (row,) = summarise(collect(grid.runs, folders))[0].rows
    assert [curve.tolist() for curve in row.curves] == [[[7.0, 8.0]]] * 2


def test_curves_are_put_on_common_points() -> None:
    one = np.array([[0.0, 0.0], [10.0, 10.0], [20.0, 10.0]])
    other = np.array([[5.0, 1.0], [15.0, 3.0], [30.0, 3.0]])
    x, y = common_curve([one, np.empty((0, 2)), other])
    assert x.tolist() == [5, 10, 15, 20]
    assert y.tolist() == [[5, 10, 10, 10], [1, 2, 3, 3]]
    x, y = common_curve([np.empty((0, 2))])
    assert len(x) == 0


def test_further_curves_of_a_kind_get_a_panel_each(folders: Folders, tmp_path: Path) -> None:
    panels = "    panels: [[wind.gusts, gusts (m), h], [curve, height again (m)], [calm, calm]]\n"
    grid = parse(
        f"name: toys\n{KIND}{panels}\nkind: toy\nseeds: 2\ngrid: {{sparse.method: [dense, set]}}"
    )
    runs = finished(grid, folders(grid))
    for folder in runs.values():
        result = folder.look().result
        assert result is not None
        more = {"wind": {"gusts": [[1, 2.0], [4, 3.0 + result["spec"]["seed"]]]}}
        folder.finish({**result, **more})
    report = write_report(grid, tmp_path / "out", runs)
    dense = report.summaries[0].rows[0]
    assert [curve[-1].tolist() for curve in dense.panel("wind.gusts")] == [[4, 3], [4, 4]]
    assert len(dense.panel("curve")) == 2 and dense.panel("calm") == ()
    assert labels(grid, runs, tmp_path / "further", "further") == [
        "gusts (m): tower. last value: dense 3.5, set 3.5",
        "height again (m): tower. last value: dense 10.2, set 9.25",
    ]


def labels(grid: Grid, runs: dict[str, RunDir], folder: Path, *figures: str) -> list[str]:
    """Return what the panels of figures say."""
    made = Report(grid, runs, figures)
    return Page(made.write(folder).read_text()).attributes("aria-label")


def test_a_kind_without_further_curves_has_no_such_figure(
    toys: Toys, folders: Folders, tmp_path: Path
) -> None:
    grid = toys("kind: toy\nseeds: 1")
    assert labels(grid, finished(grid, folders(grid)), tmp_path / "out", "further") == []


def test_a_dense_run_with_a_number_of_its_own_has_a_place_on_that_axis(
    toys: Toys, folders: Folders, tmp_path: Path
) -> None:
    grid = toys(
        "blocks:\n"
        "- {kind: toy, base: {sparse.method: dense, rate: 0.3}}\n"
        "- {kind: toy, base: {sparse.method: set}, grid: {rate: [0.1, 0.2]}}\n"
    )
    (said,) = labels(grid, finished(grid, folders(grid)), tmp_path / "out", "numbers")
    assert "dense: 0.3 10" in said and "set: 0.1 9" in said
