"""`dst`: the command line.

    dst sweep run GRID       do all runs of a grid that have no result yet, then report
    dst sweep prepare GRID   make the directories of the runs and print their paths
    dst sweep status GRID    say where they stand
    dst sweep plan GRID      say what would run, and how long it takes
    dst sweep clean GRID     remove the directories of runs that the grid does not name
    dst sweep report GRID    write the report again
    dst sweep export DIR     print or write results as CSV, Parquet, Markdown or LaTeX
    dst tune GRID            find values for each method of a grid
    dst train KIND ...       do one run: rl, cl, crl, xmc, rec, vision, package.module:NAME
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

from sparse_core.checks import InputError
from sparse_core.command import main as start
from sparse_core.command import search_here
from sparse_core.imports import load
from sweeps.commands import sweep
from sweeps.commands.parser import BENCHMARKS
from sweeps.commands.parser import make as make_parser
from sweeps.commands.surroundings import (
    check_runs_dir,
    console,
    plain_warnings,
    set_data,
    track,
)
from sweeps.commands.sweep import FAILED, OK
from sweeps.files import FULL
from sweeps.language import kinds
from sweeps.language.kinds import KINDS
from sweeps.launchers.lost import SchedulerLost

WRONG_INPUT, INTERRUPTED = 2, 130


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
        functions = {
            "run": sweep.run,
            "prepare": sweep.prepare,
            "status": sweep.status,
            "plan": sweep.plan,
            "clean": sweep.clean,
            "report": sweep.report,
            "export": sweep.export,
            "tune": sweep.tune,
            "enjoy": _enjoy,
            "list": _list,
            "doctor": _doctor,
            "data list": _data_list,
            "data get": _data_get,
        }
        return functions[options.action](options)
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


def _train(kind_name: str, words: Sequence[str]) -> int:
    from sweeps.runs.provenance import THREAD_VARIABLES

    # What follows loads NumPy, before it is known how many threads the run is to have.
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))

    from sweeps.commands.options import parse_train
    from sweeps.commands.train import RunFailed, train
    from sweeps.language.grid import make_run
    from sweeps.runs.prolonging import KEEP, check_kept

    kind = kinds.find(kind_name)
    options = parse_train(kind, words, prog=f"dst train {kind_name}")
    check_runs_dir(options.runs_dir)
    set_data(options.data)
    track(options.track, options.runs_dir)
    run = make_run(kind_name, kind, options.spec)
    if options.keep_checkpoints:
        os.environ[KEEP] = "1"
    check_kept([run])
    run.check_data()
    try:
        with plain_warnings():
            train(run, options.out, options.threads, console(), options.runs_dir, options.prolong)
    except RunFailed as error:
        print(f"dst: {error}", file=sys.stderr)
        return FAILED
    return OK


def _enjoy(options: argparse.Namespace) -> int:
    from sweeps.commands.enjoy import enjoy

    check_runs_dir(options.runs_dir)
    enjoy(options.run, options.runs_dir, options.out, options.human, options.seed, console())
    return OK


def _list(options: argparse.Namespace) -> int:
    from sweeps.commands.listing import described
    from sweeps.results.tables import listing_table

    console().print(listing_table(described(options.what)))
    return OK


def _doctor(options: argparse.Namespace) -> int:
    return int(load("doctor", "sweeps.bench.doctor:main", "a function")())


def _data_list(options: argparse.Namespace) -> int:
    from sweeps.commands.datasets import show

    show(options.data, console())
    return OK


def _data_get(options: argparse.Namespace) -> int:
    from sweeps.commands.datasets import get

    return OK if get(options.names, options.data) else FAILED


if __name__ == "__main__":
    sys.exit(start())
