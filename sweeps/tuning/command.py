"""`dst tune`: from a grid with `search` to a grid with the best values of each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from sparse_core.checks import InputError
from sweeps.files import write_text
from sweeps.language.grid import Grid, Run
from sweeps.launchers.options import Options
from sweeps.results.progress import Board, Display
from sweeps.store.directory import RunDir
from sweeps.tuning.best import best_grid, summary
from sweeps.tuning.cells import TunedCell, tuned_cells
from sweeps.tuning.proposer import Proposer, check_installed
from sweeps.tuning.tune import FOLDER, Tuner

BEST = "best.yaml"

Launcher = Callable[[Sequence[RunDir], Options, Callable[[], None]], None]


def tune(
    grid: Grid,
    folder: Path,
    proposer: Proposer,
    launcher: Launcher,
    options: Options,
    console: Console,
) -> bool:
    """Do what is left of the trials of each method, and write the grid of the best.

    Args:
        grid: A grid with `search` and `tuning_seeds`.
        folder: That of the grid's runs.
        proposer: How trials are proposed, and how many of each method.
        launcher: What brings runs to their ends.
        options: How it does.
        console: Where to say what came out.

    Returns:
        Whether every method has all its trials, and a best one.

    Raises:
        InputError: If the grid cannot be tuned, Optuna is not there, or another process is at it.
    """
    cells = tuned_cells(grid)
    searched = [cell for cell in cells if cell.spaces]
    if not searched:
        raise InputError("search: none of its fields plays a part in any run", field="search")
    for cell in searched:
        for run in cell.runs({name: space.ends()[0] for name, space in cell.spaces.items()}):
            run.check_data()
    check_installed(proposer)
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    def launch(runs: Sequence[Run], folders: Mapping[str, RunDir]) -> None:
        directories = [folders[run.run_id] for run in runs]
        if not console.is_terminal:
            launcher(directories, options, lambda: None)
            return
        board = Board(runs, dict(folders), options.slots)
        with Display(board, f"{grid.name}, trials", console) as display:
            launcher(directories, options, display.update)

    with RunDir(place).lock() as taken:
        if not taken:
            raise InputError(f"{str(place)!r}: another process is tuning here")
        tuner = Tuner(cells, place, proposer, launch, say)
        seeds = list(grid.blocks[0].tuning_seeds)
        say(
            f"{grid.name}: {len(searched)} cells, {proposer.trials} trials of each with seeds "
            f"{', '.join(map(str, seeds))}; {options.slots} runs at a time"
        )
        tuner.work(_batch(len(searched), 1 if proposer.prunes else len(seeds), options.slots))
        return _conclude(grid, place, cells, tuner, proposer, say)


def _batch(cells: int, runs: int, slots: int) -> int:
    """Return how many trials of each cell to do at a time, so that all slots have work."""
    return max(1, -(-slots // (cells * runs)))


def _conclude(
    grid: Grid,
    place: Path,
    cells: Sequence[TunedCell],
    tuner: Tuner,
    proposer: Proposer,
    say: Callable[[str], None],
) -> bool:
    found = {}
    for cell in cells:
        if not cell.spaces:
            say(f"{cell.name}: nothing to search")
            continue
        study = tuner.studies[cell.identity]
        say(summary(cell, study))
        best = study.best()
        if best is not None:
            found[cell.identity] = best
    if tuner.killed:
        say(f"{len(tuner.killed)} trials did not come to an end; the same command tries them again")
        return False
    if len(found) < len(tuner.studies):
        return False
    trials = max(len(study.trials()) for study in tuner.studies.values())
    path = place / BEST
    write_text(path, best_grid(grid, cells, found, trials, proposer))
    say(f"best: {path}")
    return True
