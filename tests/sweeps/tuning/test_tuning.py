"""Tuning: equal trials for each method, whatever dies on the way, and a grid of the best values."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from sparse_core.checks import InputError
from sweeps.language.grid import Grid, Run, parse
from sweeps.language.spec import load
from sweeps.launchers.options import Options
from sweeps.store.directory import RunDir
from sweeps.tuning.best import best_grid, summary
from sweeps.tuning.cells import TunedCell, tuned_cells
from sweeps.tuning.command import tune
from sweeps.tuning.proposer import Proposer, check_installed
from sweeps.tuning.studies import Trial, open_journal
from sweeps.tuning.tune import Tuner
from tests.sweeps.toys import KIND, ToySpec, result

Toys = Callable[[str], Grid]
Launch = Callable[[Sequence[Run], Mapping[str, RunDir]], None]

TEXT = """
kind: toy
grid: {sparse.method: [dense, set]}
search: {rate: {low: 0.01, high: 1.0, log: true}, sparse.distribution: [erk, uniform]}
seeds: 2
tuning_seeds: [100, 102]
"""


@pytest.fixture
def optuna() -> None:
    """Leave a test out where Optuna is not installed."""
    pytest.importorskip("optuna")


def fail_to_launch(*_: object) -> None:
    """Launch nothing."""
    pytest.fail("launched")


def do(runs: Sequence[Run], folders: Mapping[str, RunDir]) -> None:
    """Do runs in this process, as a worker would."""
    for run in runs:
        finish(folders[run.run_id])


def finish(folder: RunDir) -> None:
    """Do one run, unless it is done."""
    if folder.result() is not None:
        return
    record = folder.record()
    spec = load(ToySpec, record["spec"])
    folder.begin()
    if spec.fate == "raise":
        folder.fail({"type": "RuntimeError", "message": "the tower\nfell over"})
    else:
        identity = {key: record[key] for key in ("run_id", "kind", "spec")}
        folder.finish({**result(spec), **identity, "provenance": {"wall_s": 0.0}})


def tuned(
    grid: Grid, folder: Path, trials: int, launch: Launch = do, pruner: str = "none"
) -> tuple[Tuner, list[TunedCell], list[str]]:
    """Tune, and return the tuner, its cells and what was said."""
    folder.mkdir(exist_ok=True)
    said: list[str] = []
    cells = tuned_cells(grid)
    tuner = Tuner(cells, folder, Proposer("tpe", pruner, trials), launch, said.append)
    tuner.work(batch=1)
    return tuner, cells, said


def trials_of(tuner: Tuner) -> list[list[Trial]]:
    """Return the trials of each study."""
    return [study.trials() for study in tuner.studies.values()]


def test_a_cell_searches_what_plays_a_part_in_it(toys: Toys) -> None:
    dense, sparse = tuned_cells(toys(TEXT))
    assert (dense.name, sparse.name) == ("toy tower: dense", "toy tower: set")
    assert list(dense.spaces) == ["rate"]
    assert list(sparse.spaces) == ["rate", "sparse.distribution"]
    assert [run.spec.seed for run in dense.runs({"rate": 0.5})] == [100, 102]


def test_cells_that_are_one_run_are_tuned_once(toys: Toys) -> None:
    text = "kind: toy\nsearch: {rate: [1, 2]}\ntuning_seeds: [9]\n"
    grid = toys(f"{text}grid: {{sparse.distribution: [erk, uniform], points: [1, 2]}}")
    assert [cell.name for cell in tuned_cells(grid)] == [
        "toy tower: points=1",
        "toy tower: points=2",
    ]


def test_studies_are_others_where_their_trials_would_be(toys: Toys) -> None:
    texts = [
        TEXT,
        TEXT.replace("1.0", "2.0"),
        TEXT.replace("102", "103"),
        TEXT + "base: {points: 9}",
        TEXT.replace("erk, uniform", "uniform, erk"),
    ]
    found = {cell.identity for text in texts for cell in tuned_cells(toys(text))}
    assert len(found) == 2 * 4 + 1  # the order of choices is none of dense networks' business


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: toy", "grid 'toys': search: must be given in each block that is to be tuned"),
        (
            "blocks:\n- {kind: toy, search: {rate: [1, 2]}, tuning_seeds: [8]}\n"
            "- {kind: toy, search: {rate: [1, 2]}, tuning_seeds: [9]}",
            "tuning_seeds=[9]: must be the same in all blocks",
        ),
        (
            "kind: toy\nsearch: {rate: {low: -1, high: 1}}\ntuning_seeds: [9]",
            "search.rate: rate=-1.0: must be a positive number",
        ),
    ],
)
def test_what_cannot_be_tuned_is_refused_in_one_line(toys: Toys, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        tuned_cells(toys(text))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("sampler", "pruner", "trials", "message"),
    [
        ("tpe", "none", 0, "trials=0: must be an integer of at least 1"),
        ("tp", "none", 1, "sampler='tp': must be one of tpe, random, qmc, gp, cmaes, or package"),
        ("tpe", "never", 1, "pruner='never': must be one of none, median, halving, or package"),
    ],
)
def test_a_wrong_proposer_is_one_line(sampler: str, pruner: str, trials: int, message: str) -> None:
    with pytest.raises(InputError) as error:
        Proposer(sampler, pruner, trials)
    assert str(error.value).startswith(message)


def test_without_optuna_the_extra_is_named(
    toys: Toys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'dstrl\[tune\]'$"):
        tune(toys(TEXT), tmp_path / "x", Proposer(), fail_to_launch, Options(), Console())
    assert not (tmp_path / "x").exists()


def test_the_grid_of_the_best_runs_with_the_reported_seeds(toys: Toys) -> None:
    grid = toys(TEXT)
    dense, sparse = cells = tuned_cells(grid)
    found = {
        dense.identity: Trial(3, {"rate": 0.0123}, "complete", 1.0),
        sparse.identity: Trial(1, {"rate": 0.5, "sparse.distribution": "uniform"}, "complete", 2.0),
    }
    best = parse(best_grid(grid, cells, found, 7, Proposer("random", "median", 7)))
    assert best.name == "toys-best"
    told = [(run.spec.sparse.method, run.spec.rate, run.spec.seed) for run in best.runs]
    assert told == [("dense", 0.0123, 0), ("dense", 0.0123, 1), ("set", 0.5, 0), ("set", 0.5, 1)]
    assert best.runs[2].spec.sparse.distribution == "uniform"
    source = best.header.tuned
    assert source is not None
    assert (source.grid, source.trials, source.seeds) == ("toys", 7, (100, 102))
    assert (source.sampler, source.pruner) == ("random", "median")
    assert source.fields == ("rate", "sparse.distribution")


@pytest.mark.usefixtures("optuna")
def test_each_method_has_equal_trials_and_its_best(toys: Toys, tmp_path: Path) -> None:
    tuner, cells, said = tuned(toys(TEXT), tmp_path / "t", 3)
    dense, sparse = trials_of(tuner)
    assert [len(dense), len(sparse), len(said)] == [3, 3, 6]
    assert {trial.score for trial in dense} == {60.5}  # 10 + 0.5 seed, over 100 and 102
    assert all(
        trial.score == 59.5 - (trial.values["sparse.distribution"] == "uniform") for trial in sparse
    )
    assert all(0.01 <= trial.values["rate"] <= 1 for trial in dense)
    best = tuner.studies[cells[1].identity].best()
    assert best is not None and best.score == max(trial.score or 0 for trial in sparse)
    assert summary(cells[0], tuner.studies[cells[0].identity]).startswith(
        f"toy tower: dense: 3 trials: best 60.5 with rate {dense[0].values['rate']}"
    )


@pytest.mark.usefixtures("optuna")
def test_a_driver_that_dies_changes_nothing(toys: Toys, tmp_path: Path) -> None:
    grid = toys(TEXT)
    whole, *_ = tuned(grid, tmp_path / "whole", 3)
    calls = []

    def die_at_the_second(runs: Sequence[Run], folders: Mapping[str, RunDir]) -> None:
        calls.append(1)
        do(runs[:1] if len(calls) == 2 else runs, folders)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(grid, tmp_path / "cut", 3, die_at_the_second)
    journal = tmp_path / "cut" / "journal.log"
    with journal.open("ab") as file:  # as if killed while it wrote
        file.write(b'{"op_code":')
    Path(f"{journal}.lock").symlink_to(journal)
    cut, *_ = tuned(grid, tmp_path / "cut", 3)
    assert trials_of(cut) == trials_of(whole)
    again, _, said = tuned(grid, tmp_path / "cut", 3, fail_to_launch)
    assert trials_of(again) == trials_of(whole) and not said


@pytest.mark.usefixtures("optuna")
def test_a_command_with_fewer_trials_leaves_later_ones_alone(toys: Toys, tmp_path: Path) -> None:
    grid = toys(TEXT)

    def die(runs: Sequence[Run], folders: Mapping[str, RunDir]) -> None:
        raise KeyboardInterrupt

    tuned(grid, tmp_path / "t", 1)
    with pytest.raises(KeyboardInterrupt):
        tuned(grid, tmp_path / "t", 2, die)
    tuner, _, said = tuned(grid, tmp_path / "t", 1, fail_to_launch)
    assert [[trial.state for trial in each] for each in trials_of(tuner)] == [
        ["complete", "open"]
    ] * 2
    assert not said


@pytest.mark.usefixtures("optuna")
def test_killed_runs_are_tried_again_and_failed_ones_are_not(toys: Toys, tmp_path: Path) -> None:
    grid = toys(TEXT + "base: {fate: raise}")

    def kill(runs: Sequence[Run], folders: Mapping[str, RunDir]) -> None:
        for run in runs:
            folders[run.run_id].fail({"type": "Exit", "message": "killed by SIGKILL"})

    tuner, cells, said = tuned(grid, tmp_path / "t", 2, kill)
    assert {trial.state for trials in trials_of(tuner) for trial in trials} == {"open"}
    assert len(tuner.killed) == 4
    assert said[0].endswith("not done, seed 100: Exit: killed by SIGKILL")
    tuner, cells, said = tuned(grid, tmp_path / "t", 2)
    assert [len(trials) for trials in trials_of(tuner)] == [2, 2]
    assert {trial.state for trials in trials_of(tuner) for trial in trials} == {"failed"}
    assert said[0].endswith("failed: RuntimeError: the tower fell over")
    assert summary(cells[0], tuner.studies[cells[0].identity]) == (
        "toy tower: dense: 2 trials, 2 failed: none has a score"
    )


@pytest.mark.usefixtures("optuna")
def test_a_trial_that_is_given_up_costs_no_more_seeds(toys: Toys, tmp_path: Path) -> None:
    text = TEXT.replace("[dense, set]", "[set]").replace("[100, 102]", "[7, 8, 9]")
    done: list[int] = []

    def note(runs: Sequence[Run], folders: Mapping[str, RunDir]) -> None:
        done.extend(run.spec.seed for run in runs)
        do(runs, folders)

    tuner, _, said = tuned(toys(text), tmp_path / "t", 8, note, "median")
    (trials,) = trials_of(tuner)
    states = [trial.state for trial in trials]
    assert len(trials) == 8 and {*states} <= {"complete", "pruned"}
    assert done.count(7) == 8 and done.count(9) == 8 - sum("given up" in line for line in said)
    assert states.count("pruned") == sum("given up" in line for line in said)
    uniform = [t for t in trials if t.state == "pruned"]
    assert all(trial.values["sparse.distribution"] == "uniform" for trial in uniform)


@pytest.mark.usefixtures("optuna")
@pytest.mark.parametrize("sampler", ["random", pytest.param("qmc", marks=pytest.mark.slow)])
def test_other_samplers_stay_within_the_ranges(toys: Toys, tmp_path: Path, sampler: str) -> None:
    cell = tuned_cells(toys(TEXT))[1]
    tuner = Tuner([cell], tmp_path, Proposer(sampler, "none", 4), do, lambda text: None)
    tuner.work(batch=4)
    (trials,) = trials_of(tuner)
    assert len({trial.values["rate"] for trial in trials}) == 4
    assert all(0.01 <= trial.values["rate"] <= 1 for trial in trials)


@pytest.mark.usefixtures("optuna")
def test_the_command_writes_the_best_and_goes_on(
    toys: Toys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def launch(folders: Sequence[RunDir], options: Options, watch: Callable[[], None]) -> None:
        for folder in folders:
            finish(folder)

    def command(trials: int) -> list[str]:
        proposer = Proposer("tpe", "none", trials)
        assert tune(toys(TEXT), tmp_path, proposer, launch, Options(jobs=1), Console(width=200))
        return capsys.readouterr().out.splitlines()

    lines = command(2)
    assert lines[0] == ("toys: 2 cells, 2 trials of each with seeds 100, 102; 1 runs at a time")
    assert lines[-1] == f"best: {tmp_path / 'tuning/best.yaml'}"
    assert len(command(3)) == 1 + 2 + 2 + 1
    best = parse((tmp_path / "tuning/best.yaml").read_text(), "best.yaml")
    assert best.header.tuned is not None and best.header.tuned.trials == 3
    with RunDir(tmp_path / "tuning").lock(), pytest.raises(InputError, match=r"is tuning here$"):
        command(3)


def no_sampler(seed: int) -> int:
    """Make none."""
    return seed


def own_sampler(seed: int) -> object:
    """Make one of Optuna's."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


@pytest.mark.usefixtures("optuna")
def test_samplers_of_ones_own_are_checked_before_anything_is_written(
    toys: Toys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_installed(Proposer(f"{__name__}:own_sampler"))
    monkeypatch.setitem(sys.modules, "cmaes", None)
    for sampler, message in (
        (f"{__name__}:no_sampler", "returns int, must return a sampler of Optuna's"),
        ("cmaes", "sampler='cmaes': needs cmaes: pip install cmaes"),
    ):
        with pytest.raises(InputError, match=message):
            tune(
                toys(TEXT), tmp_path / "x", Proposer(sampler), fail_to_launch, Options(), Console()
            )
    assert not (tmp_path / "x").exists()


@pytest.mark.usefixtures("optuna")
def test_a_journal_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.log").write_text("garbage\n{}\n")
    with pytest.raises(InputError, match=r"is no journal of Optuna's"):
        open_journal(tmp_path)


def test_the_kinds_of_a_grid_go_with_its_best(toys: Toys) -> None:
    assert KIND.strip().startswith("kinds:")
    grid = toys(TEXT)
    text = best_grid(grid, tuned_cells(grid), {}, 1, Proposer())
    assert "runner: tests.sweeps.toys:run" in text


@pytest.mark.usefixtures("optuna")
def test_runs_that_hold_data_out_are_judged_by_it(toys: Toys, tmp_path: Path) -> None:
    def launch(runs: Sequence[Run], folders: Mapping[str, RunDir]) -> None:
        for run in runs:
            finish(folders[run.run_id])
            path = tmp_path / "t" / run.run_id / "result.json"
            record = json.loads(path.read_text())
            path.write_text(json.dumps(record | {"valid_score": -run.spec.rate}))

    tuner, _, _ = tuned(toys(TEXT), tmp_path / "t", 2, launch)
    for trials in trials_of(tuner):
        assert [trial.score for trial in trials] == [-t.values["rate"] for t in trials]


@pytest.mark.usefixtures("optuna")
def test_qmc_spreads_the_trials_of_a_study(toys: Toys, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    text = "kind: toy\nsearch: {rate: {low: 1.5, high: 5.5}}\ntuning_seeds: [9]\n"
    tuner = Tuner(tuned_cells(toys(text)), folder, Proposer("qmc", "none", 5), do, lambda _: None)
    tuner.work(batch=1)
    (trials,) = trials_of(tuner)
    # The first one is drawn at random: Optuna does not know the range before.
    assert sorted(int(trial.values["rate"] - 1.5) for trial in trials[1:]) == [0, 1, 2, 3]
