"""The report: complete, right, and in need of nothing but itself."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from sweeps import files
from sweeps.language.grid import Grid, parse
from sweeps.results.tables import duration, number, remarks, results_table, terminal_table
from sweeps.runs import worker
from sweeps.store.directory import RunDir, prepare
from tests.sweeps.reports import Page, Written, finished, write_report
from tests.sweeps.toys import KIND

Toys = Callable[[str], Grid]
Folders = Callable[[Grid], list[RunDir]]
METHODS = """
kind: toy
base: {sparse.sparsity: 0.9}
grid: {sparse.method: [set, static, dense], sparse.distribution: [erk, uniform]}
seeds: 3
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Written:
    grid = parse(f"name: toys\n{KIND}\n{METHODS}", "toys.yaml")
    place = tmp_path_factory.mktemp("report")
    folders = [RunDir(place / run.run_id) for run in grid.runs]
    for run, folder in zip(grid.runs, folders, strict=True):
        prepare(folder, run.record())
    return write_report(grid, place, finished(grid, folders))


@pytest.fixture(scope="module")
def page(report: Written) -> Page:
    return Page(report.path.read_text())


def test_the_page_is_well_formed_and_needs_nothing_else(page: Page) -> None:
    assert page.open == []
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object"}
    linked = page.attributes("href", "src", "xlink:href")
    assert linked and all(link.startswith("#") for link in linked)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in linked} <= set(ids)


def test_styles_load_nothing(report: Written) -> None:
    html = report.path.read_text()
    assert "@import" not in html
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", html))


def test_every_panel_is_an_inline_svg_that_says_what_it_shows(page: Page) -> None:
    said = page.attributes("aria-label")
    assert sum(attributes.get("role") == "img" for _, attributes in page.tags) == len(said)
    assert said[0].startswith(
        "tower. final height (m), mean with 95% interval: dense: 10.5 [8.709, 12.29] (3);"
    )
    assert said[1].startswith("tower. height (m) at the end: dense 10.5, set erk 9.5,")
    assert any(text.startswith("tower. set erk: -1 [-1, -1], p 0.000;") for text in said)


def test_every_group_has_its_row_baseline_first(report: Written) -> None:
    (summary,) = report.summaries
    table = results_table(summary)
    assert table.header == (
        "method",
        "distribution",
        "seeds",
        "mean [95% t]",
        "less dense, paired [95% t]",
        "p (Holm)",
        "sparsity reached",
        "wall time",
    )
    sure = "<0.001"
    assert [row[:-1] for row in table.rows] == [
        ("dense", "-", "3", "10.5 [8.7, 12.3]", "-", "-", "0.00%"),
        ("set", "erk", "3", "9.5 [7.7, 11.3]", "-1.0 [-1.0, -1.0]", sure, "90.00%"),
        ("set", "uniform", "3", "8.5 [6.7, 10.3]", "-2.0 [-2.0, -2.0]", sure, "90.00%"),
        ("static", "erk", "3", "8.5 [6.7, 10.3]", "-2.0 [-2.0, -2.0]", sure, "90.00%"),
        ("static", "uniform", "3", "7.5 [5.7, 9.3]", "-3.0 [-3.0, -3.0]", sure, "90.00%"),
    ]
    assert table.strong == {(row, 4) for row in range(1, 5)}
    whole = results_table(summary, whole=True)
    assert (whole.header[4], whole.header[6], whole.header[9]) == ("single runs", "p", "weights")
    assert all(row[9] == "10" for row in whole.rows)
    assert [row[4] for row in whole.rows][:2] == ["10.0 10.5 11.0", "9.0 9.5 10.0"]
    assert all(row[-1].endswith(" s") for row in table.rows)


def test_the_page_shows_all_that_the_table_says(report: Written, page: Page) -> None:
    text = page.text.replace("\N{MINUS SIGN}", "-")
    for row in results_table(report.summaries[0], whole=True).rows:
        assert all(cell in text for cell in row)


def test_provenance_and_the_way_to_reproduce_are_there(page: Page) -> None:
    for said in ("Code", "Machine", "Threads of each run", "python 3.", "numpy ", "torch "):
        assert said in page.text
    assert "dst sweep run toys.yaml" in page.text
    assert "sparse.method: [set, static, dense]" in page.text


def test_the_terminal_shows_the_same_table(report: Written) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(terminal_table(report.summaries[0]))
    text = console.export_text()
    assert "Toys: final height (m)" in text
    assert "-1.0 [-1.0, -1.0]" in text


def test_runs_csv_has_a_line_for_every_run(report: Written, toys: Toys) -> None:
    with (report.path.parent / "runs.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["run_id"] for line in lines] == [run.run_id for run in toys(METHODS).runs]
    assert {line["state"] for line in lines} == {"done"}
    first = lines[0]
    assert (first["sparse.method"], first["seed"], first["score"]) == ("set", "0", "9.0")
    assert (first["active_weights"], first["total_weights"]) == ("10", "100")
    assert float(first["wall_s"]) >= 0


def test_table_csv_has_full_precision(report: Written) -> None:
    with (report.path.parent / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["label"] for line in lines][:2] == ["dense", "set erk"]
    assert (lines[1]["estimate"], lines[1]["estimate_by"]) == ("9.5", "mean")
    half = 6.2053468 * 0.5 / 3**0.5  # the 0.9875 quantile of t with two degrees of freedom
    assert float(lines[1]["estimate_low"]) == pytest.approx(9.5 - half)
    assert (lines[1]["p_t"], lines[1]["p_permutation"]) == ("0.0", "0.25")
    assert lines[1]["probability_better_than_dense"] == str(0.5 / 9)
    assert lines[1]["difference_to_dense"] == "-1.0"
    assert lines[0]["difference_to_dense"] == ""
    assert lines[1]["sparsity_achieved"] == "0.9"


def test_the_same_results_give_the_same_bytes(report: Written, toys: Toys, tmp_path: Path) -> None:
    grid = toys(METHODS)
    runs = {run.run_id: RunDir(report.path.parent / run.run_id) for run in grid.runs}
    again = write_report(grid, tmp_path, runs)
    for name in ("report.html", "table.csv", "runs.csv"):
        assert (tmp_path / name).read_bytes() == (report.path.parent / name).read_bytes()
    assert again.missing == 0


def test_what_failed_or_was_not_run_is_listed(toys: Toys, folders: Folders, tmp_path: Path) -> None:
    grid = toys("kind: toy\ngrid: {fate: [fine, raise, print]}\nseeds: 2")
    runs = dict(zip([run.run_id for run in grid.runs], folders(grid), strict=True))
    for folder in list(runs.values())[:3]:
        worker.execute(folder)
    report = write_report(grid, tmp_path / "out", runs)
    page = Page(report.path.read_text())
    assert report.missing == 4
    assert "2 of 6 runs have a result" in page.text
    assert "4\nruns have none." in page.text
    assert "toy tower: raise, seed 0" in page.text
    assert "RuntimeError: the tower" in page.text
    assert page.text.count("not run yet") == 3
    rows = results_table(report.summaries[0]).rows
    assert [row[:3] for row in rows] == [
        ("fine", "2", "10.2 [3.9, 16.6]"),
        ("raise", "0 of 2", "-"),
        ("print", "0 of 2", "-"),
    ]


def test_without_any_result_there_is_still_a_report(
    toys: Toys, folders: Folders, tmp_path: Path
) -> None:
    grid = toys(METHODS)
    runs = dict(zip([run.run_id for run in grid.runs], folders(grid), strict=True))
    report = write_report(grid, tmp_path / "out", runs)
    assert report.missing == len(grid.runs)
    assert "0 of 15 runs have a result" in Page(report.path.read_text()).text


def test_a_reader_is_told_how_methods_were_tuned(
    toys: Toys, folders: Folders, tmp_path: Path
) -> None:
    head = "tuned: {grid: mine, trials: 7, seeds: [2, 100], fields: [rate]}\n"
    grid = toys(f"{head}kind: toy\nseeds: 3")
    written = write_report(grid, tmp_path / "out", finished(grid, folders(grid)))
    assert (
        "7 trials of each method of mine, with seeds 2, 100, of rate; the results are of seeds "
        "that it saw too (2)" in written.path.read_text()
    )


def test_what_runs_say_is_escaped(toys: Toys, folders: Folders, tmp_path: Path) -> None:
    grid = toys("kind: toy\ngrid: {note: [<script>alert(1)</script>, b]}")
    runs = finished(grid, folders(grid))
    html = write_report(grid, tmp_path / "out", runs).path.read_text()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def amended(folder: RunDir, **changes: object) -> None:
    """Change a finished run's result."""
    result = folder.result()
    assert result is not None
    folder.finish(result | changes)


def test_topologies_that_never_moved_are_named(
    toys: Toys, folders: Folders, tmp_path: Path
) -> None:
    grid = toys("kind: toy\ngrid: {sparse.method: [dense, static, set]}\nseeds: 2")
    runs = finished(grid, prepared := folders(grid))
    said = "critic: no update of the topology in 90 optimizer steps (update_every=100)"
    for folder in prepared[:4]:
        amended(folder, updates={}, still=[])
    amended(prepared[4], updates={"actor": 30, "critic": 12}, still=[])
    amended(prepared[5], updates={"actor": 3, "critic": 0}, still=[said])
    report = write_report(grid, tmp_path / "out", runs)
    table = results_table(report.summaries[0])
    assert table.header[-2] == "updates"
    assert [row[-2] for row in table.rows] == ["-", "-", "6"]
    (remark,) = remarks(report.summaries[0])
    assert remark == f"set: 1 of 2 runs did not move ({said})"
    page = Page(report.path.read_text())
    assert page.open == [] and remark in page.text
    with report.path.with_name("runs.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["updates"] for line in lines] == ["", "", "", "", "12", "0"]
    assert [line["without_update"] for line in lines] == ["", "", "", "", "", said]
    with report.path.with_name("table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["updates"], line["runs_without_update"]) for line in lines] == [
        ("", ""),
        ("", ""),
        ("6.0", "1"),
    ]


@pytest.mark.parametrize("updates", [3, {"policy": "3"}, ["x"], None])
def test_results_that_do_not_say_what_moved_say_nothing(
    toys: Toys, folders: Folders, tmp_path: Path, updates: object
) -> None:
    grid = toys("kind: toy")
    runs = finished(grid, folders(grid))
    amended(next(iter(runs.values())), updates=updates)
    report = write_report(grid, tmp_path / "out", runs)
    assert "updates" not in results_table(report.summaries[0]).header
    assert remarks(report.summaries[0]) == []


def test_dollar_signs_are_no_mathematics(toys: Toys, folders: Folders, tmp_path: Path) -> None:
    grid = toys("kind: toy\ngrid: {note: ['cost $5_{ to $6', $x^2$], task: ['$\\\\frac{$', b]}")
    html = write_report(grid, tmp_path / "out", finished(grid, folders(grid))).path.read_text()
    assert "cost $5_{ to $6" in html and "$x^2$" in html


def test_no_value_is_a_formula_to_a_spreadsheet(
    toys: Toys, folders: Folders, tmp_path: Path
) -> None:
    notes = ["=1+1", "+1", "-1", "@x", "plain", "a=b"]
    grid = toys(f"kind: toy\ngrid: {{note: {notes}, rate: [1, 2]}}")
    path = write_report(grid, tmp_path / "out", finished(grid, folders(grid))).path
    for name, column in (("runs.csv", "note"), ("table.csv", "note")):
        with path.with_name(name).open() as file:
            found = [line[column] for line in csv.DictReader(file)][::2]
        assert found == ["'=1+1", "'+1", "'-1", "'@x", "plain", "a=b"]


@pytest.mark.parametrize(
    ("value", "text"), [(1234.56, "1,234.6"), (12.34, "12.3"), (1.234, "1.23"), (-0.5, "-0.500")]
)
def test_numbers_have_the_decimals_that_a_reader_can_use(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (99.94, "99.9 s"), (125, "2:05"), (3725.4, "1:02:05")]
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_a_killed_driver_began_to_write_is_removed(
    toys: Toys, folders: Folders, tmp_path: Path
) -> None:
    grid = toys("kind: toy\nseeds: 1")
    runs = finished(grid, folders(grid))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    out = tmp_path / "out"
    out.mkdir()
    left, living, elsewhere = (
        out / f".report.html.{host}.{process}.tmp"
        for host, process in (
            (files._HOST, gone.pid),
            (files._HOST, os.getppid()),
            ("far", gone.pid),
        )
    )
    for path in (left, living, elsewhere):
        path.touch()
    write_report(grid, out, runs)
    assert [path.exists() for path in (left, living, elsewhere)] == [False, True, True]


def test_scores_of_seeds_that_tuning_saw_are_marked(folders: Folders, tmp_path: Path) -> None:
    tuned = "tuned: {grid: before, trials: 5, seeds: [SEEDS]}"
    head = f"name: toys\n{KIND}\n{tuned}\nkind: toy\nseeds: 2"
    for seeds, marked in (("1, 7", True), ("7", False)):
        grid = parse(head.replace("SEEDS", seeds), "toys.yaml")
        html = write_report(grid, tmp_path / "out", finished(grid, folders(grid))).path.read_text()
        assert ("Tuning saw the reported seeds 1: these" in html) == marked
