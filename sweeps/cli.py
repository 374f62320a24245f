"""`dst`: the command line.

    dst sweep run GRID       do all runs of a grid that have no result yet, then report
    dst sweep prepare GRID   make the directories of the runs and print their paths
    dst sweep status GRID    say where they stand
    dst sweep plan GRID      say what would run, and how long it takes
    dst sweep clean GRID     remove the directories of runs that the grid does not name
    dst sweep report GRID    write the report again
    dst sweep export DIR     print or write results as CSV, Parquet, Markdown or LaTeX
    dst tune GRID            find values for each method of a grid
    dst train KIND ...       do one run: rl, cl, crl, xmc, rec, package.module:NAME
    dst enjoy RUN            play an episode of a finished run
    dst bench NAME ...       measure speed: kernels, layers, conv, rl, cl, rec, large, updates
    dst list WHAT            say what names there are, a line for each
    dst data list|get        say which data sets are there, fetch others
    dst doctor               say what machine and installation this is, and what is wrong with it

Exit codes: 0 all is well, 1 a run has failed or a file could not be written (a full disk), 2 wrong
input (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparse_core.checks import InputError
from sparse_core.command import main as start
from sparse_core.command import search_here
from sparse_core.imports import load
from sweeps import kinds
from sweeps.files import FULL
from sweeps.kinds import KINDS
from sweeps.launchers.engine import SchedulerLost
from sweeps.parser import BENCHMARKS, DATA
from sweeps.parser import make as make_parser

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.grid import Grid
    from sweeps.launchers.choice import Launcher
    from sweeps.launchers.options import Options
    from sweeps.store import RunDir

OK, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        search_here()
        if words[:1] == ["train"] and words[1:2] and (words[1] in KINDS or ":" in words[1]):
            return _train(words[1], words[2:])
        if words[:1] == ["bench"] and words[1:2] and words[1] in BENCHMARKS:
            return int(load("bench", BENCHMARKS[words[1]][0], "a function")(words[2:]))
        parser = make_parser()
        if not words:
            parser.print_help()
            return WRONG_INPUT
        options = parser.parse_args(words)
        commands = {
            "run": _run,
            "prepare": _prepare,
            "status": _status,
            "plan": _plan,
            "clean": _clean,
            "report": _report,
            "export": _export,
            "tune": _tune,
            "enjoy": _enjoy,
            "list": _list,
            "doctor": _doctor,
            "data list": _data_list,
            "data get": _data_get,
        }
        return commands[options.action](options)
    except InputError as error:
        print(f"dst: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG_INPUT
    except OSError as error:
        if error.filename is None and error.errno not in FULL:
            raise
        where = "" if error.filename is None else f"{str(error.filename)!r}: "
        print(f"dst: {where}{error.strerror}", file=sys.stderr)
        return FAILED
    except SchedulerLost as error:
        print(f"dst: {error}; the same command goes on with what is left", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("dst: interrupted; the same command goes on with what is left", file=sys.stderr)
        return INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    from sweeps.progress import Board, Display
    from sweeps.store import State

    launch, launching = _launcher(options)
    grid, folders = _prepared(options)
    local = options.launcher == "local"
    board = Board(grid.runs, folders, launching.slots if local else launching.jobs)
    left = len(grid.runs) - board.count(State.DONE)
    console = _console()
    where = f"{launching.slots} at a time" if local else f"launcher {options.launcher}"
    _say(
        console,
        f"{grid.name}: {len(grid.runs)} runs, {left} to do, {where}, "
        f"threads of each: {launching.threads}",
    )
    with Display(board, grid.name, console) as display:
        launch([folders[run.run_id] for run in grid.runs], launching, display.update)
    missing = _write_report(grid, options.runs_dir / grid.name, folders, console)
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
    from sweeps.worker import MINUTES, checkpoint_minutes

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
    _track(options.track, options.runs_dir)
    return launch, launching


def _prepare(options: argparse.Namespace) -> int:
    _, folders = _prepared(options)
    for folder in folders.values():
        print(folder.path)
    return OK


def _prepared(options: argparse.Namespace) -> tuple[Grid, dict[str, RunDir]]:
    """Read a grid, look for what its runs need, and make their directories."""
    from sweeps.grid import load_grid
    from sweeps.store import prepare

    _set_data(options.data)
    grid = load_grid(options.grid)
    folders = _folders(grid, options.runs_dir)
    for run in grid.runs:
        run.check_data()
    for run in grid.runs:
        prepare(folders[run.run_id], run.record())
    return grid, folders


def _status(options: argparse.Namespace) -> int:
    from sweeps.grid import load_grid
    from sweeps.progress import Board, Display, status_table, watch
    from sweeps.sources import earlier_remark
    from sweeps.store import State

    _set_data(options.data)
    grid = load_grid(options.grid)
    board = Board(grid.runs, _folders(grid, options.runs_dir))
    console = _console()
    if options.watch:
        with Display(board, grid.name, console) as display:
            watch(display, board)
    else:
        console.print(status_table(board))
    counts = ", ".join(
        f"{board.count(state)} {state.value}"
        for state in State
        if state is not State.UNREADABLE or board.count(state)
    )
    remark = earlier_remark(options.runs_dir / grid.name, [run.record() for run in grid.runs])
    if remark:
        _say(console, remark)
    _say(console, f"{grid.name}: {len(board.runs)} runs: {counts}")
    return FAILED if board.count(State.FAILED) or board.count(State.UNREADABLE) else OK


def _plan(options: argparse.Namespace) -> int:
    from sweeps.grid import load_grid
    from sweeps.launchers.options import Options
    from sweeps.plan import conclusion, plan_table, rows

    slots = Options(options.jobs, options.threads).slots
    _set_data(options.data)
    grid = load_grid(options.grid)
    cells = rows(grid, _folders(grid, options.runs_dir), options.runs_dir)
    console = _console()
    console.print(plan_table(cells))
    for line in conclusion(grid, cells, slots):
        _say(console, line)
    return OK


def _clean(options: argparse.Namespace) -> int:
    from sweeps.clean import clean
    from sweeps.grid import load_grid

    _set_data(options.data)
    grid = load_grid(options.grid)
    _check_runs_dir(options.runs_dir)
    clean(grid, options.runs_dir / grid.name, options.yes, lambda text: _say(_console(), text))
    return OK


def _report(options: argparse.Namespace) -> int:
    from sweeps.grid import load_grid

    _set_data(options.data)
    grid = load_grid(options.grid)
    folders = _folders(grid, options.runs_dir)
    out = options.out or options.runs_dir / grid.name
    _write_report(grid, out, folders, _console(), options.figure, options.figures)
    return OK


def _export(options: argparse.Namespace) -> int:
    from sweeps.export import export

    sys.stdout.write(export(options.folder, options.format, options.what, options.out))
    return OK


def _write_report(
    grid: Grid,
    out: Path,
    folders: dict[str, RunDir],
    console: Console,
    figures: Sequence[str] = (),
    files: str | None = None,
) -> int:
    """Print a report's tables, write it, say where, and return the number of missing runs."""
    from sweeps.report import Report
    from sweeps.tables import remarks, terminal_table
    from sweeps.trackers.beside import trackers

    report = Report(grid, folders, figures)
    for summary in report.summaries:
        console.print()
        console.print(terminal_table(summary))
        for remark in remarks(summary):
            _say(console, remark)
    if report.missing:
        _say(
            console, f"{report.missing} of {len(grid.runs)} runs have no result (dst sweep status)"
        )
    if report.earlier:
        _say(console, report.earlier)
    with trackers(out):
        where = report.write(out)
    _say(console, f"report: {where}")
    if files is not None:
        count = report.write_figures(out / "figures", files)
        _say(console, f"figures: {count} files in {out / 'figures'}")
    return report.missing


def _tune(options: argparse.Namespace) -> int:
    from sweeps.grid import load_grid
    from sweeps.tuning.command import tune
    from sweeps.tuning.proposer import Proposer

    launch, launching = _launcher(options)
    proposer = Proposer(options.sampler, options.pruner, options.trials)
    _track(options.track, options.runs_dir)
    _set_data(options.data)
    grid = load_grid(options.grid)
    _check_runs_dir(options.runs_dir)
    done = tune(grid, options.runs_dir / grid.name, proposer, launch, launching, _console())
    return OK if done else FAILED


def _train(kind_name: str, words: Sequence[str]) -> int:
    from sweeps.provenance import THREAD_VARIABLES

    # What follows loads NumPy, before it is known how many threads the run is to have.
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))

    from sweeps.grid import make_run
    from sweeps.options import parse_train
    from sweeps.train import RunFailed, train

    kind = kinds.find(kind_name)
    options = parse_train(kind, words, prog=f"dst train {kind_name}")
    _check_runs_dir(options.runs_dir)
    _set_data(options.data)
    _track(options.track, options.runs_dir)
    run = make_run(kind_name, kind, options.spec)
    run.check_data()
    try:
        train(run, options.out, options.threads, _console(), options.runs_dir)
    except RunFailed as error:
        print(f"dst: {error}", file=sys.stderr)
        return FAILED
    return OK


def _enjoy(options: argparse.Namespace) -> int:
    from sweeps.enjoy import enjoy

    _check_runs_dir(options.runs_dir)
    enjoy(options.run, options.runs_dir, options.out, options.human, options.seed, _console())
    return OK


def _list(options: argparse.Namespace) -> int:
    from sweeps.listing import described
    from sweeps.tables import listing_table

    _console().print(listing_table(described(options.what)))
    return OK


def _doctor(options: argparse.Namespace) -> int:
    return int(load("doctor", "sweeps.bench.doctor:main", "a function")())


def _data_list(options: argparse.Namespace) -> int:
    from sweeps.datasets import show

    show(options.data, _console())
    return OK


def _data_get(options: argparse.Namespace) -> int:
    from sweeps.datasets import get

    return OK if get(options.names, options.data) else FAILED


def _folders(grid: Grid, runs_dir: Path) -> dict[str, RunDir]:
    from sweeps.store import RunDir

    _check_runs_dir(runs_dir)
    return {run.run_id: RunDir(runs_dir / grid.name / run.run_id) for run in grid.runs}


def _check_runs_dir(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"runs_dir={str(folder)!r}: must be a directory", field="runs_dir")


def _set_data(folder: Path | None) -> None:
    """Tell this process and its workers where data lies; it is not part of a run's identity."""
    if folder is not None:
        os.environ[DATA] = str(folder.absolute())
    if DATA in os.environ and not Path(os.environ[DATA]).is_dir():
        raise InputError(
            f"data={os.environ[DATA]!r}: must be a folder that exists (--data, {DATA})",
            field="data",
        )


def _track(names: str, runs_dir: Path) -> None:
    """Tell this process and its workers which trackers follow runs; none is part of an identity."""
    from sweeps.trackers.choice import announce

    if names:
        announce(names, runs_dir / "tracking")


def _console() -> Console:
    """Return a console that folds nothing where its output goes to a file or a pipe."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=200)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(start())
