"""Runs that begin where a shorter one has ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sparse_core.checkpoints import Checkpoints
from sparse_core.checks import InputError
from sweeps.commands.options import parse_train
from sweeps.language.grid import Grid, Run, parse
from sweeps.language.kinds import Kind
from sweeps.runs import prolonging, provenance, worker
from sweeps.runs.prolonging import FROM, KEEP
from sweeps.store.directory import RunDir, prepare
from tests.sweeps import toys
from tests.sweeps.toys import ToySpec

pytestmark = pytest.mark.usefixtures("own_environment")


@dataclass(frozen=True)
class Count(ToySpec):
    """Counts to `points`; the sizes depend on how far."""

    def part_of(self, longer: Count) -> float | None:
        if dataclasses.replace(longer, points=self.points) != self or longer.points <= self.points:
            return None
        if self.sizes != (64, 64):
            raise InputError(f"sizes={self.sizes}: end with the points", field="sizes")
        return self.points / longer.points


def count(
    spec: Count, out: Path, progress: Any, checkpoints: Checkpoints | None = None
) -> dict[str, Any]:
    state = checkpoints.load() if checkpoints is not None else None
    began = 0 if state is None else state["number"]
    for number in range(began, spec.points):
        progress(number / spec.points, {})
    progress(1.0, {})
    if checkpoints is not None and checkpoints.keep:
        checkpoints.save({"number": spec.points})
    return toys.result(spec) | {"began": began}


HERE = "tests.sweeps.runs.test_prolonging"
KIND = Kind(spec=f"{HERE}:Count", runner=f"{HERE}:count", title="Counts")
KINDS = f"kinds:\n  count: {{spec: '{KIND.spec}', runner: '{KIND.runner}', title: Counts}}\n"

Grids = Callable[[str], Grid]


@pytest.fixture
def counts() -> Callable[[str], tuple[Run, ...]]:
    """Return a function that makes the runs of a grid's `base`."""
    return lambda base: parse(f"name: c\n{KINDS}kind: count\nbase: {{{base}}}", "c.yaml").runs


def done(run: Run, shorter: prolonging.Ended | None = None) -> RunDir:
    """Return the directory of a run that was done here."""
    folder = RunDir(Path("runs") / run.run_id)
    prepare(folder, prolonging.record_of(run, folder, shorter))
    worker.execute(folder)
    return folder


def shorter_ones(*runs: Run) -> dict[str, prolonging.Ended]:
    folders = {run.run_id: RunDir(Path("runs") / run.run_id) for run in runs}
    return prolonging.shorter_ones(runs, folders, Path("runs"))


@pytest.fixture
def keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEEP, "1")


@pytest.mark.usefixtures("keep")
def test_a_run_begins_with_the_longest_that_is_shorter(
    counts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for points in (2, 4, 16):
        (run,) = counts(f"points: {points}")
        assert (done(run).checkpoint / "00000001.ckpt").exists()
    monkeypatch.delenv(KEEP)
    (run,) = counts("points: 8")
    shorter = shorter_ones(run)[run.run_id]
    folder = done(run, shorter)
    result = folder.result()
    assert result is not None and result["began"] == 4
    assert result["provenance"]["prolongs"] == shorter.record["run_id"]
    assert [point[0] for point in result["provenance"]["pace"]] == [
        0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1,
    ]  # fmt: skip
    assert not folder.checkpoint.exists()
    assert shorter.folder.checkpoint.exists()
    assert shorter_ones(run) == {}


def test_ends_are_only_kept_if_that_is_asked_for(counts: Any) -> None:
    (run,) = counts("points: 2")
    assert not done(run).checkpoint.exists()
    with pytest.raises(InputError, match=r"^prolong=True: no run in 'runs' differs in nothing but"):
        shorter_ones(*counts("points: 8"))
    with pytest.raises(InputError, match=r"^prolong=.*: must be a finished run whose checkpoint"):
        prolonging.part(*counts("points: 8"), RunDir(Path("runs") / run.run_id))


@pytest.mark.usefixtures("keep")
def test_a_schedule_that_depends_on_the_length_is_named(counts: Any) -> None:
    done(*counts("points: 2, sizes: [1]"))
    with pytest.raises(InputError, match=r"^sizes=\(1,\): end with the points$"):
        shorter_ones(*counts("points: 8, sizes: [1]"))


@pytest.mark.usefixtures("keep")
def test_an_end_of_other_code_or_that_is_gone_is_one_line(
    counts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = done(*counts("points: 2"))
    (run,) = counts("points: 8")
    shorter = shorter_ones(run)[run.run_id]
    monkeypatch.setattr(provenance, "source_digest", lambda: "other")
    error = done(run, shorter).error() or {}
    assert error["input"] and error["message"].startswith("prolong: the shorter run's checkpoint")
    (short.checkpoint / "00000001.ckpt").unlink()
    error = done(run, shorter).error() or {}
    assert (
        error["message"] == f"{FROM}='../{short.path.name}': its checkpoint is not there any more"
    )


@pytest.mark.usefixtures("keep")
def test_kinds_that_cannot_be_prolonged_keep_no_ends(toys: Grids) -> None:
    (run,) = toys("kind: toy").runs
    assert not prolonging.keeps(run.record())
    with pytest.raises(InputError, match=r"^keep_checkpoints=True: runs of kind toy cannot be"):
        prolonging.check_kept(toys("kind: toy").runs)


@pytest.mark.usefixtures("keep")
def test_options_begin_with_the_run_that_is_prolonged(counts: Any) -> None:
    (short,) = counts("points: 2, rate: 0.5")
    folder = done(short)
    options = parse_train(KIND, ["--prolong", str(folder.path), "--points", "8"], "dst train")
    assert options.spec == dataclasses.replace(short.spec, points=8)
    assert options.prolong == folder.path
    other = dataclasses.replace(KIND, spec="tests.sweeps.toys:ToySpec")
    with pytest.raises(InputError, match=r"^prolong=.*: must be a run of the same kind, not count"):
        parse_train(other, ["--prolong", str(folder.path)], "dst train")
    (longer,) = counts("points: 8")
    with pytest.raises(InputError, match=r"^prolong=.*: must be a run that differs in nothing but"):
        prolonging.part(longer, folder)
