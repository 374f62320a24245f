"""Results as data: what `sweeps.load` and `sweeps.curves` give, and `dst sweep export`."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

import sweeps
from sparse_core.checks import InputError
from sweeps import cli
from sweeps.commands.parser import EXPORTS, FORMATS
from sweeps.language.grid import Grid, parse
from sweeps.results.export import export
from sweeps.runs import worker
from sweeps.store.directory import RunDir, prepare

Toys = Callable[[str], Grid]
Folders = Callable[[Grid], list[RunDir]]
GRID = "grid: {sparse.method: [dense, set]}\nbase: {sparse.sparsity: 0.9}\nseeds: 2"


@pytest.fixture
def store(tmp_path: Path, toys: Toys, folders: Folders) -> Path:
    """Four runs, of which three are done; one curve has measured seconds."""
    prepared = folders(toys(f"kind: toy\n{GRID}"))
    for folder in prepared[:3]:
        worker.execute(folder)
    result = prepared[0].result()
    assert result is not None
    result["provenance"]["pace"] = [[0.0, 0.0], [1.0, 2.0]]
    more = {"speed": 3.5, "wind": {"gusts": [[1, 2.0], [4, 3.0]]}, "matrix": [[0.5, 0.2], [1, 0]]}
    prepared[0].finish(result | more)
    return tmp_path / "runs" / "toys"


def test_runs_are_rows(store: Path) -> None:
    pytest.importorskip("pandas")
    frame = sweeps.load(store)
    assert list(frame.columns[:5]) == ["run", "kind", "state", "sparse.method", "sparse.sparsity"]
    assert frame.attrs["axes"] == ["sparse.method", "sparse.sparsity"]
    assert sorted(frame.state) == ["done", "done", "done", "pending"]
    done = frame[frame.state == "done"].sort_values("score")
    assert done.score.tolist() == [9.0, 10.0, 10.5]
    assert done["sparse.method"].tolist() == ["set", "dense", "dense"]
    assert done.sizes.tolist() == ["[64, 64]"] * 3
    assert done["sparsity.achieved"].tolist() == [0.9, 0.0, 0.0]
    assert (done.active_weights == 10).all() and (done.total_weights == 100).all()
    assert (
        done["provenance.wall_s"].notna().all() and done["provenance.versions.numpy"].notna().all()
    )
    assert done.speed.dropna().tolist() == [3.5]


def test_curves_are_long(store: Path) -> None:
    pytest.importorskip("pandas")
    frame = sweeps.curves(store)
    assert list(frame.columns) == ["run", "metric", "step", "seconds", "value"]
    counts = frame.groupby("metric").size().to_dict()
    assert counts == {"curve": 12, "wind.gusts": 2}  # and no matrix
    done = {path.parent.name for path in store.glob("*/result.json")}
    assert set(frame.run) == done and frame[frame.metric != "curve"].seconds.isna().all()
    (paced,) = (run for run, found in frame.groupby("run") if "wind.gusts" in set(found.metric))
    timed = frame[(frame.run == paced) & (frame.metric == "curve")]
    assert timed[["step", "seconds", "value"]].to_numpy().tolist() == [
        [100, 0.5, 2.5],
        [200, 1.0, 5.0],
        [300, 1.5, 7.5],
        [400, 2.0, 10.0],
    ]


def test_curves_over_seconds_say_when_the_others_were_measured(store: Path) -> None:
    pytest.importorskip("pandas")
    folder = next(RunDir(path.parent) for path in store.glob("*/result.json"))
    result = folder.result()
    assert result is not None
    timed = [[0.1 * place, y] for place, (_, y) in enumerate(result["curve"])]
    folder.finish(result | {"curve_seconds": timed})
    frame = sweeps.curves(store)
    mine = frame[(frame.run == result["run_id"]) & (frame.metric == "curve")]
    assert mine.seconds.tolist() == [x for x, _ in timed]
    assert "curve_seconds" not in set(frame.metric)


def test_without_pandas_one_line_says_what_to_install(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for read in (sweeps.load, sweeps.curves):
        with pytest.raises(
            InputError, match=r"^pandas: is not installed: pip install 'dstrl\[data"
        ):
            read(store)


def test_folders_without_runs_are_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no runs; did you mean '.*runs/toys'\?$"):
        export(store.parent, "csv", None, None)
    with pytest.raises(InputError, match=r"^folder='.*nowhere': must be a folder of runs$"):
        export(tmp_path / "nowhere", "csv", None, None)


def test_csv_has_runs_curves_or_the_table(store: Path) -> None:
    lines = {
        what: list(csv.DictReader(io.StringIO(export(store, "csv", what, None))))
        for what in EXPORTS
    }
    assert {what: len(found) for what, found in lines.items()} == {
        "runs": 4,
        "curves": 14,
        "table": 2,
    }
    assert {line["metric"] for line in lines["curves"]} == {"curve", "wind.gusts"}
    dense = next(line for line in lines["table"] if line["sparse.method"] == "dense")
    assert (dense["estimate"], dense["seeds"], dense["planned"]) == ("10.25", "2", "2")


@pytest.mark.parametrize(
    ("form", "marked"), [("markdown", "**-1.0 [-1.0, -1.0]**"), ("latex", r"\textbf{-1.0 [-1.0")]
)
def test_tables_for_papers_mark_what_survives(
    store: Path, toys: Toys, folders: Folders, form: str, marked: str
) -> None:
    for folder in folders(toys(f"kind: toy\n{GRID}")):
        worker.execute(folder)
    text = export(store, form, None, None)
    assert marked in text
    assert len(text.splitlines()) == {"markdown": 5, "latex": 9}[form] + (form == "markdown")


def test_latex_and_markdown_escape_what_they_would_take_for_their_own(
    toys: Toys, folders: Folders, tmp_path: Path
) -> None:
    for folder in folders(toys("kind: toy\ngrid: {note: ['50%_{a}', 'x|y & z<1']}")):
        worker.execute(folder)
    store = tmp_path / "runs" / "toys"
    assert r"50\%\_\{a\} &" in (text := export(store, "latex", None, None))
    assert r"x|y \& z$<$1 &" in text
    assert r"| x\|y & z<1 |" in export(store, "markdown", None, None)
    assert r"curve & 100 &" in export(store, "latex", "curves", None)


def test_kinds_that_come_with_the_package_keep_their_headings(tmp_path: Path) -> None:
    (run,) = parse("name: x\nkind: xmc").runs
    folder = RunDir(tmp_path / "x" / run.run_id)
    prepare(folder, run.record())
    identity = {key: run.record()[key] for key in ("run_id", "kind", "spec")}
    sparsity = {"requested": 0.0, "achieved": 0.0}
    folder.finish(
        {"score": 0.5, "curve": [], "sparsity": sparsity, "layers": []}
        | identity
        | {"provenance": {"wall_s": 1.0}}
    )
    text = export(tmp_path / "x", "markdown", None, None)
    assert text.startswith("Extreme classification: P@1 (%):\n\n| run | seeds |")
    assert "| 50.0 |" in text


def test_the_command_prints_or_writes(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sweep", "export", str(store), "--format", "markdown"]) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "table.md"
    assert cli.main(["sweep", "export", str(store), "--format", "markdown", "--out", str(out)]) == 0
    assert out.read_text() == printed and capsys.readouterr().out == ""
    assert cli.main(["sweep", "export", str(store), "--format", "parquet"]) == 2
    assert "is no text; say where to write it" in capsys.readouterr().err
    assert set(FORMATS) == {"csv", "parquet", "latex", "markdown"}


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_parquet_holds_the_same_rows(store: Path, tmp_path: Path) -> None:
    import pandas

    export(store, "parquet", "curves", tmp_path / "curves.parquet")
    frame = pandas.read_parquet(tmp_path / "curves.parquet")
    pandas.testing.assert_frame_equal(frame, sweeps.curves(store), check_dtype=False)


def test_parquet_says_what_to_install(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.results.export.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^pandas: is not installed"):
        export(store, "parquet", "runs", tmp_path / "runs.parquet")


TUNED = """tuned: {grid: mine, trials: 4, seeds: [9], fields: [rate]}
blocks:
- {kind: toy, seeds: 2, base: {sparse.method: dense, rate: 0.3}}
- {kind: toy, seeds: 2, base: {sparse.method: set, rate: 0.1}}
"""


def test_tuned_methods_are_paired_as_in_their_report(
    here: Callable[..., tuple[int, str, str]], grid_file: Callable[[str], Path], tmp_path: Path
) -> None:
    assert here("sweep", "prepare", grid_file(TUNED))[0] == 0
    folder = tmp_path / "runs" / "toys"
    for spec in folder.glob("*/spec.json"):
        worker.execute(RunDir(spec.parent))
    assert differences(folder) == ["", "-1.0"]
    (folder / "grid.yaml").unlink()
    assert differences(folder) == ["", ""]
    for text, fault in (("tuned: 3", "name=None: must be text"), ("[]", "must be a mapping with")):
        (folder / "grid.yaml").write_text(text)
        with pytest.raises(InputError, match=rf"grid\.yaml: {fault}"):
            differences(folder)


def differences(folder: Path) -> list[str]:
    """Return the differences of an exported table."""
    table = csv.DictReader(io.StringIO(export(folder, "csv", "table", None)))
    return [row["difference_to_dense"] for row in table]
