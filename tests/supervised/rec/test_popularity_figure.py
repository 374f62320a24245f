"""The report draws active entries against popularity, where tables are sparse."""

from __future__ import annotations

from pathlib import Path

from sweeps.language.grid import parse
from sweeps.report.page import Report
from sweeps.store.directory import RunDir, prepare
from tests.sweeps.reports import Page


def test_active_entries_are_drawn_against_popularity(tmp_path: Path) -> None:
    grid = parse(
        "name: vectors\nkind: rec\nbase: {dataset: gowalla, sparse.sparsity: 0.5}\n"
        "grid: {sparse.method: [dense, rigl, srigl]}\nseeds: 2"
    )
    runs = {run.run_id: RunDir(tmp_path / run.run_id) for run in grid.runs}
    for run, folder in zip(grid.runs, runs.values(), strict=True):
        prepare(folder, run.record())
        more = 2.0 * run.spec.seed
        entries = {"items": [[0.0, 4.0 + more], [8.0, 12.0]], "users": [[3.0, 6.0]]}
        result = {
            "score": 0.1,
            "curve": [[1, 0.1]],
            "sparsity": {"requested": 0.5, "achieved": 0.5},
            "layers": [],
            "entries": {} if run.spec.sparse.method == "dense" else entries,
        }
        identity = {key: run.record()[key] for key in ("run_id", "kind", "spec")}
        folder.finish(result | identity | {"provenance": {"wall_s": 1.0}})
    page = Report(grid, runs, ("popularity",)).write(tmp_path / "out").read_text()
    said = Page(page).attributes("aria-label")
    assert len(said) == 2
    assert "rigl 5 at 0, 12 at 8 pairs; srigl 5 at 0, 12 at 8 pairs" in said[0]
    assert "rigl 6 at 3, 6 at 3 pairs" in said[1]
