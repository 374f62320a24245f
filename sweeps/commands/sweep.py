"""What `dst sweep` and `dst tune` do, each with the options of the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparse_core.checks import InputError
from sweeps.commands.surroundings import check_runs_dir, console, say, set_data, track

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.language.grid import Grid
    from sweeps.launchers.choice import Launcher
    from sweeps.launchers.options import Options
    from sweeps.store.directory import RunDir

OK, FAILED = 0, 1
"""Exit codes: all is well, a run has failed or has no result."""


def run(options: argparse.Namespace) -> int:
    """Do all runs of a grid that have no result, and write the report."""
    from sweeps.results.progress import Board, Display
    from sweeps.runs.prolonging import KEEP
    from sweeps.store.directory import State
    from sweeps.store.folder import keep_grid

    launch, launching = _launcher(options)
    if options.keep_checkpoints:
        os.environ[KEEP] = "1"
    grid, folders = _prepared(options, options.prolong)
    local = options.launcher == "local"
    board = Board(grid.runs, folders, launching.slots if local else launching.jobs)
    left = len(grid.runs) - board.count(State.DONE)
    terminal = console()
    where = f"{launching.slots} at a time" if local else f"launcher {options.launcher}"
    say(
        terminal,
        f"{grid.name}: {len(grid.runs)} runs, {left} to do, {where}, "
        f"threads of each: {launching.threads}",
    )
    with Display(board, grid.name, terminal) as display:
        launch([folders[run.run_id] for run in grid.runs], launching, display.update)
    missing = _write_report(grid, options.runs_dir / grid.name, folders, terminal)
    keep_grid(options.runs_dir / grid.name, grid)  # its head may be another than that of the runs
    for watched in board.runs:
        if watched.state is State.FAILED:
            print(f"FAILED {watched.name}: {watched.message}", file=sys.stderr)
            if (watched.folder.error() or {}).get("input"):
                continue  # the line has said it all
            print(f"  log: {watched.folder.log}", file=sys.stderr)
            for line in watched.folder.log_tail().splitlines():
                print(f"  | {line}", file=sys.stderr)
    return FAILED if missing else OK


def _launcher(options: argparse.Namespace) -> tuple[Launcher, Options]:
    """Return what brings runs to their ends and how, and say which trackers follow them.

    All is checked before anything is written.
    """
    from sweeps.launchers.choice import find, read_settings
    from sweeps.launchers.options import Options
    from sweeps.runs.worker import MINUTES, checkpoint_minutes

    if options.checkpoint_minutes is not None:
        os.environ[MINUTES] = options.checkpoint_minutes
    checkpoint_minutes()
    launching = Options(
        options.jobs,
        options.threads,
        options.timeout,
        options.retries,
        options.address,
        read_settings(options.launcher_options),
        options.start,
    )
    launch = find(options.launcher)
    launch([], launching, lambda: None)
    track(options.track, options.runs_dir)
    return launch, launching


def prepare(options: argparse.Namespace) -> int:
    """Make the directories of a grid's runs, and print their paths."""
    _, folders = _prepared(options)
    for folder in folders.values():
        print(folder.path)
    return OK


def _prepared(options: argparse.Namespace, prolong: bool = False) -> tuple[Grid, dict[str, RunDir]]:
    """Read a grid, look for what its runs need, and make their directories.

    Args:
        options: Of the command line.
        prolong: Whether runs go on from the ends of shorter ones.
    """
    from sweeps.language.grid import load_grid
    from sweeps.runs import prolonging
    from sweeps.store.directory import State, prepare
    from sweeps.store.folder import keep_grid

    set_data(options.data)
    grid = load_grid(options.grid)
    folders = _folders(grid, options.runs_dir)
    for run in grid.runs:
        run.check_data()
    _refuse(grid, folders)
    prolonging.check_kept(grid.runs)
    shorter: Mapping[str, prolonging.Ended] = {}
    if prolong:
        shorter = prolonging.shorter_ones(grid.runs, folders, options.runs_dir / grid.name)
        said = "goes on" if len(shorter) == 1 else "go on"
        say(console(), f"{len(shorter)} of {len(grid.runs)} {said} from the end of a shorter run")
    for run in grid.runs:
        folder = folders[run.run_id]
        prepare(folder, prolonging.record_of(run, folder, shorter.get(run.run_id)))
    if any(folder.state() is not State.DONE for folder in folders.values()):
        keep_grid(options.runs_dir / grid.name, grid)
    return grid, folders


def _refuse(grid: Grid, folders: Mapping[str, RunDir]) -> None:
    """Refuse a grid with cells that only their own libraries can tell to be wrong.

    Raises:
        InputError: If there is one with runs left to do; it is named.
    """
    from sweeps.language.axes import Axes
    from sweeps.results.progress import cell_name
    from sweeps.runs.refusals import refusals
    from sweeps.store.directory import State

    left = [run for run in grid.runs if folders[run.run_id].state() is not State.DONE]
    cells = list({run.cell.key: run for run in left}.values())
    wrong = [(run, said) for run, said in zip(cells, refusals(cells), strict=True) if said]
    if wrong:
        run, said = wrong[0]
        axes = Axes([other for other in grid.runs if other.kind_name == run.kind_name])
        others = len(wrong) - 1
        more = f" (and {others} more cell{'s' if others > 1 else ''})" if others else ""
        raise InputError(f"{grid.reference}: {cell_name(run, axes)}{more}: {said}")


def status(options: argparse.Namespace) -> int:
    """Say where a grid's runs stand."""
    from sweeps.language.grid import load_grid
    from sweeps.language.sources import earlier_remark
    from sweeps.results.progress import Board, Display, status_table, watch
    from sweeps.store.directory import State

    set_data(options.data)
    grid = load_grid(options.grid)
    board = Board(grid.runs, _folders(grid, options.runs_dir))
    terminal = console()
    if options.watch:
        with Display(board, grid.name, terminal) as display:
            watch(display, board)
    else:
        terminal.print(status_table(board))
    counts = ", ".join(
        f"{board.count(state)} {state.value}"
        for state in State
        if state is not State.UNREADABLE or board.count(state)
    )
    remark = earlier_remark(options.runs_dir / grid.name, [run.record() for run in grid.runs])
    if remark:
        say(terminal, remark)
    say(terminal, f"{grid.name}: {len(board.runs)} runs: {counts}")
    return FAILED if board.count(State.FAILED) or board.count(State.UNREADABLE) else OK


def plan(options: argparse.Namespace) -> int:
    """Say what would run, and for how long."""
    from sweeps.commands.plan import conclusion, plan_table, rows
    from sweeps.language.grid import load_grid
    from sweeps.launchers.options import Options

    slots = Options(options.jobs, options.threads).slots
    set_data(options.data)
    grid = load_grid(options.grid)
    folders = _folders(grid, options.runs_dir)
    _refuse(grid, folders)
    cells = rows(grid, folders, options.runs_dir)
    terminal = console()
    terminal.print(plan_table(cells))
    for line in conclusion(grid, cells, slots):
        say(terminal, line)
    return OK


def clean(options: argparse.Namespace) -> int:
    """Remove the directories that a grid does not name any more."""
    from sweeps.language.grid import load_grid
    from sweeps.store.clean import clean as remove

    set_data(options.data)
    grid = load_grid(options.grid)
    check_runs_dir(options.runs_dir)
    remove(grid, options.runs_dir / grid.name, options.yes, lambda text: say(console(), text))
    return OK


def report(options: argparse.Namespace) -> int:
    """Write a grid's report again."""
    from sweeps.language.grid import load_grid

    set_data(options.data)
    grid = load_grid(options.grid)
    folders = _folders(grid, options.runs_dir)
    out = options.out or options.runs_dir / grid.name
    _write_report(grid, out, folders, console(), options.figure, options.figures)
    return OK


def export(options: argparse.Namespace) -> int:
    """Print or write results."""
    from sweeps.results.export import export as exported

    sys.stdout.write(exported(options.folder, options.format, options.what, options.out))
    return OK


def _write_report(
    grid: Grid,
    out: Path,
    folders: dict[str, RunDir],
    terminal: Console,
    figures: Sequence[str] = (),
    files: str | None = None,
) -> int:
    """Print a report's tables, write it, say where, and return the number of missing runs."""
    from sweeps.report.page import Report
    from sweeps.results.tables import remarks, terminal_table
    from sweeps.trackers.beside import trackers

    report = Report(grid, folders, figures)
    for summary in report.summaries:
        terminal.print()
        terminal.print(terminal_table(summary))
        for remark in remarks(summary):
            say(terminal, remark)
    if report.missing:
        say(
            terminal, f"{report.missing} of {len(grid.runs)} runs have no result (dst sweep status)"
        )
    if report.earlier:
        say(terminal, report.earlier)
    with trackers(out):
        where = report.write(out)
    say(terminal, f"report: {where}")
    if files is not None:
        count = report.write_figures(out / "figures", files)
        say(terminal, f"figures: {count} files in {out / 'figures'}")
    return report.missing


def tune(options: argparse.Namespace) -> int:
    """Find values for each method of a grid."""
    from sweeps.language.grid import load_grid
    from sweeps.tuning.command import tune as tune_grid
    from sweeps.tuning.proposer import Proposer

    launch, launching = _launcher(options)
    proposer = Proposer(options.sampler, options.pruner, options.trials)
    track(options.track, options.runs_dir)
    set_data(options.data)
    grid = load_grid(options.grid)
    check_runs_dir(options.runs_dir)
    done = tune_grid(grid, options.runs_dir / grid.name, proposer, launch, launching, console())
    return OK if done else FAILED


def _folders(grid: Grid, runs_dir: Path) -> dict[str, RunDir]:
    from sweeps.store.directory import RunDir

    check_runs_dir(runs_dir)
    return {run.run_id: RunDir(runs_dir / grid.name / run.run_id) for run in grid.runs}
