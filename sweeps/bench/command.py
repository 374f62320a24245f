"""The command line that the speed benchmarks share: options, threads, the table, JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from sparse_core.checks import InputError
from sweeps.bench.timing import Record, in_turns, machine, table, write_json

Calls = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Setting:
    """How a case is measured.

    Attributes:
        threads: Threads of all contestants.
        quick: Whether one shape and one sparsity are enough.
        turns: Times contestants in turns: median microseconds by name.
        peak: GFLOP/s that as many cores as there are threads could reach.
    """

    threads: int
    quick: bool
    turns: Callable[[Calls], dict[str, float]]
    peak: float


Case = Callable[[Setting], Iterator[list[Record]]]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and exit with 2."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def plain_parser(prog: str, description: str | None) -> Parser:
    """Return a parser without options."""
    return Parser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def parser(prog: str, description: str | None) -> Parser:
    """Return a parser with the options of all benchmarks."""
    made = plain_parser(prog, description)
    made.add_argument("--json", type=output, metavar="FILE", help="write records to it")
    made.add_argument("--threads", type=positive, default=1, metavar="N", help="default: 1")
    made.add_argument("--quick", action="store_true", help="one shape and sparsity a case")
    made.add_argument(
        "--rounds", type=positive, default=15, metavar="N", help="blocks of each; default: 15"
    )
    made.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time of one thread, for a machine that others use",
    )
    return made


def set_threads(threads: int) -> None:
    """Set the threads of all libraries; before any of them is imported.

    Several threads wait actively, as suits a process that has the machine to itself: to wake them
    at each of a step's kernels would cost more than they save on layers below a million weights.
    """
    for name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    if threads > 1:
        os.environ.setdefault("OMP_WAIT_POLICY", "ACTIVE")
    import torch

    torch.set_num_threads(threads)


def exit_code(prog: str, main: Callable[[], int | None]) -> int:
    """Run a program; say in one line what was wrong with its input, or which file failed."""
    try:
        return main() or 0
    except InputError as error:
        print(f"{prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        print(f"{prog}: {str(error.filename)!r}: {error.strerror}", file=sys.stderr)
        return 1


def run(
    prog: str,
    description: str | None,
    cases: Mapping[str, Case],
    arguments: Sequence[str] | None,
    several: Collection[str] = (),
    long: Collection[str] = (),
) -> int:
    """Measure cases, print tables as they come, and write records at the end.

    Args:
        prog: What the user typed.
        description: What is measured.
        cases: By name; each yields records, a list for each table row.
        arguments: Of the command line; None: the process's.
        several: The cases that need several threads.
        long: The cases that take minutes, and are measured only where they are named.

    Returns:
        0.
    """
    options = parser(prog, description)
    without = f" but {', '.join(long)}" if long else ""
    options.add_argument(
        "--cases", nargs="+", choices=tuple(cases), metavar="CASE",
        help=f"some of {', '.join(cases)}; default: all{without}",
    )  # fmt: skip
    chosen = options.parse_args(arguments)
    alone = [name for name in several if chosen.threads < 2]
    for name in alone:
        if name in (chosen.cases or ()):
            options.error(f"--cases {name} needs --threads 2 or more")
    if chosen.clock == "cpu" and chosen.threads > 1:
        options.error("--clock cpu measures one thread only")
    set_threads(chosen.threads)
    from sweeps.bench.peak import limits

    limit = limits(chosen.threads)
    print(json.dumps(machine() | limit.facts(), indent=1), flush=True)
    clock = time.perf_counter if chosen.clock == "wall" else time.thread_time
    rounds = 5 if chosen.quick else chosen.rounds
    turns = partial(in_turns, rounds=rounds, clock=clock)
    setting = Setting(chosen.threads, chosen.quick, turns, limit.all_cores)
    everything: list[Record] = []
    for name in chosen.cases or [name for name in cases if name not in long]:
        if name in alone:
            print(f"{name}: left out, it needs --threads 2 or more", flush=True)
            continue
        for found in cases[name](setting):
            print(table(found), flush=True)
            everything += found
    if chosen.json is not None:
        write_json(chosen.json, everything)
    return 0


def positive(text: str) -> int:
    """Read an integer of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be an integer of at least 1")
    return number


def output(text: str) -> Path:
    """Read the name of a file that can be written."""
    path = Path(text)
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: must be a file in a folder that exists")
    return path
