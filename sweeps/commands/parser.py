"""The words and options that `dst` takes, but for those of a spec's fields and of `dst bench`."""

from __future__ import annotations

import argparse
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from sparse_core.checks import InputError
from sweeps.commands.listing import LISTINGS
from sweeps.language.kinds import KINDS
from sweeps.launchers.choice import LAUNCHERS
from sweeps.trackers.choice import TRACKERS
from sweeps.tuning.proposer import PRUNERS, SAMPLERS

DATA = "DST_DATA"
"""Environment variable: the folder of data sets."""

BENCHMARKS = {
    "kernels": ("sweeps.bench.kernels:main", "condensed kernels on arrays"),
    "layers": ("sweeps.bench.layers:main", "condensed layers under autograd"),
    "conv": ("sweeps.bench.conv:main", "condensed convolutions under autograd"),
    "attention": ("sweeps.bench.attention:main", "condensed attention and Transformer blocks"),
    "vision": ("sweeps.bench.vision:main", "training steps of networks for images"),
    "rl": ("sweeps.bench.rl:main", "gradient steps of SAC"),
    "gpu": ("sweeps.bench.gpu:main", "condensed layers on a GPU, against dense, CSR and 2:4"),
    "cl": ("sweeps.bench.cl:main", "training of a task, evaluation of an earlier one"),
    "rec": ("sweeps.bench.rec:main", "steps of recommenders with sparse tables"),
    "large": ("sweeps.bench.large:main", "layers of up to a million labels, born sparse"),
    "planted": ("sweeps.bench.planted:main", "which growth rule finds planted edges"),
    "updates": ("sweeps.bench.updates:main", "what an update of the topology costs, in steps"),
}
FIGURE_FORMATS = ("svg", "pdf", "png")
"""In which figures can be written into files."""

FORMATS = ("csv", "parquet", "latex", "markdown")
"""In which results can be exported."""

EXPORTS = ("runs", "curves", "table")
"""What can be exported: a line for each run, all curves, or a line for each method."""

GRID = "a YAML file, or the name of a packaged grid (dst list grids)"
EXAMPLES = """examples:
  dst sweep run quickstart            a packaged grid; run it again to go on after any interruption
  dst sweep run grids/mine.yaml --jobs 8
  dst sweep run mine.yaml --launcher slurm --launcher-options gpu.yaml
  dst sweep status mine.yaml --watch  from another terminal
  dst tune mine.yaml --trials 20      a learning rate for each method
  dst train rl --env CartPole-v1 --sparse.method srigl --sparse.sparsity 0.95
  dst train rl --preset rlx2 --algo td3 --env HalfCheetah-v5
  dst train cl --benchmark permuted-digits --sparse.distribution uniform
  dst train crl --sequence cartpole --sparse.method rigl --isolation hard
  dst train xmc --dataset bibtex --data DIR --sparse.method rigl --sparse.sparsity 0.97
  dst train rec --dataset gowalla --data DIR --model mf --sparse.method srigl --sparse.sparsity 0.8
  dst train vision --data DIR --network resnet8 --sparse.method srigl --sparse.sparsity 0.95
  dst enjoy runs/train/0123456789ab   writes an animated GIF
  dst data get mnist --data DIR       fetches a data set
  dst doctor                          is all well with machine and installation?
  dst list methods                    what --sparse.method can be, a line for each
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are InputErrors."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")


def make() -> argparse.ArgumentParser:
    """Return the parser of all commands; it raises an InputError where words are wrong."""
    parser = _Parser(
        prog="dst",
        description="A testbed for dynamic sparse training in deep RL and continual learning.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    version = f"dst {metadata.version('dstrl')}"
    parser.add_argument("--version", action="version", version=version)
    groups = parser.add_subparsers(metavar="COMMAND", required=True)
    sweep = groups.add_parser("sweep", help="run a grid of experiments, look at it, report on it")
    actions = sweep.add_subparsers(metavar="ACTION", required=True)
    run = _action(actions, "run", "do all runs without a result, then write the report")
    _run_options(run)
    run.add_argument(
        "--prolong",
        action="store_true",
        help="runs go on from the end of those that differ in nothing but fewer steps, and whose "
        "checkpoints were kept",
    )
    run.add_argument(
        "--keep-checkpoints",
        action="store_true",
        help="keep the end of each run, so that it can be prolonged",
    )
    _action(
        actions, "prepare", "make the directories of all runs and print their paths, one a line"
    )
    status = _action(actions, "status", "say where each run stands")
    status.add_argument("--watch", action="store_true", help="go on until all runs have ended")
    plan = _action(actions, "plan", "say what would run, what there is, and how long it takes")
    _slots_options(plan)
    clean = _action(actions, "clean", "remove the directories of runs that the grid does not name")
    clean.add_argument("--yes", action="store_true", help="do not ask")
    report = _action(
        actions, "report", "write report.html, table.csv and runs.csv from what there is"
    )
    report.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write; default: beside the runs"
    )
    report.add_argument(
        "--figures", choices=FIGURE_FORMATS, help="also write every panel into DIR/figures"
    )
    report.add_argument(
        "--figure",
        action="append",
        default=[],
        metavar="NAME",
        help="a figure to draw, of dst list figures or package.module:NAME; may be given several "
        "times; default: all",
    )
    _export_options(actions.add_parser("export", help="print or write results for other programs"))
    _tune_options(_action(groups, "tune", "find values for each method of a grid by equal trials"))
    train = groups.add_parser(
        "train",
        help=f"do one run: {', '.join(KINDS)}",
        epilog="Options of each: dst train KIND --help. KIND may also be package.module:NAME of a "
        "sweeps.language.kinds.Kind of your own.",
    )
    kinds = train.add_subparsers(metavar="KIND", required=True)
    for name, kind in KINDS.items():
        kinds.add_parser(name, help=f"{kind.title.lower()}: one run")
    bench = groups.add_parser("bench", help="measure speed against dense layers and others")
    names = bench.add_subparsers(metavar="NAME", required=True)
    for name, (_, text) in BENCHMARKS.items():
        names.add_parser(name, help=text)
    _enjoy_options(groups.add_parser("enjoy", help="play an episode of a finished run"))
    _data_options(groups.add_parser("data", help="see which data sets are there, fetch others"))
    doctor = groups.add_parser(
        "doctor", help="say what machine and installation this is, and what is wrong with it"
    )
    doctor.set_defaults(action="doctor")
    listing = groups.add_parser(
        "list",
        help="say what names there are",
        epilog="Wherever such a name can stand, package.module:NAME of your own can too.",
    )
    listing.set_defaults(action="list")
    listing.add_argument(
        "what", metavar="WHAT", choices=list(LISTINGS), help=f"one of {', '.join(LISTINGS)}"
    )
    return parser


def _action(
    actions: argparse._SubParsersAction[_Parser], name: str, text: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.set_defaults(action=name)
    parser.add_argument("grid", metavar="GRID", help=GRID)
    parser.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help=f"folder of data sets; default: ${DATA}"
    )
    return parser


def _slots_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs at a time; default: CPUs / threads"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="threads of a run; default: %(default)s",
    )


def _run_options(parser: argparse.ArgumentParser) -> None:
    _launcher_options(parser)
    _slots_options(parser)
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="seconds after which a run is given up"
    )
    parser.add_argument(
        "--retries",
        type=int,
        default=1,
        metavar="N",
        help="how often a run that a signal killed is tried again; default: %(default)s",
    )
    parser.add_argument(
        "--start",
        metavar="HOW",
        help="forkserver (default on Linux): from a process that has imported the libraries once; "
        "spawn: each in a fresh one",
    )
    parser.add_argument(
        "--checkpoint-minutes",
        metavar="M",
        help="between two checkpoints of a run, from which it goes on if it is stopped; 0: none; "
        "default: 5 ($DST_CHECKPOINT_MINUTES)",
    )


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print or write the results in a folder of runs, for other programs."
    parser.set_defaults(action="export")
    parser.add_argument("folder", type=Path, metavar="DIR", help="such as runs/quickstart")
    parser.add_argument("--format", choices=FORMATS, default="csv", help="default: %(default)s")
    parser.add_argument(
        "--what",
        choices=EXPORTS,
        help="a line for each run, all curves, or the table of the report; default: the table in "
        "markdown and latex, else runs",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: print it")


def _tune_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trials", type=int, required=True, metavar="N", help="of each method")
    parser.add_argument(
        "--sampler",
        default="tpe",
        metavar="NAME",
        help=f"{', '.join(SAMPLERS)}, or package.module:NAME; default: %(default)s",
    )
    parser.add_argument(
        "--pruner",
        default="none",
        metavar="NAME",
        help=f"{', '.join(PRUNERS)}, or package.module:NAME: whether trials are given up between "
        "their seeds; default: %(default)s",
    )
    _run_options(parser)


def _launcher_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--launcher",
        default="local",
        metavar="NAME",
        help=f"one of {', '.join(LAUNCHERS)}, or package.module:NAME; default: %(default)s",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of a scheduler that is running (dask, ray); default: one of its own",
    )
    parser.add_argument(
        "--track",
        default="",
        metavar="NAME",
        help=f"show runs in {', '.join(TRACKERS)} or package.module:NAME; with commas for several",
    )
    parser.add_argument(
        "--launcher-options",
        type=Path,
        metavar="FILE",
        help="YAML file of settings for the launcher, such as partition, time and memory",
    )


def _data_options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="say which there are, and how to get the others")
    listing.set_defaults(action="data list")
    get = actions.add_parser(
        "get", help="fetch some with the usual downloaders, which compare checksums"
    )
    get.set_defaults(action="data get")
    get.add_argument("names", nargs="+", metavar="NAME", help="as dst data list says")
    for child in (listing, get):
        child.add_argument(
            "--data", type=Path, metavar="DIR", help=f"folder of data sets; default: ${DATA}"
        )


def _enjoy_options(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Play an episode of a finished run, without exploration. Weights and statistics are read "
        "as tensors and arrays: no code that lies in the run's directory is run. What the run's "
        "environment or sequence names is imported."
    )
    parser.set_defaults(action="enjoy")
    parser.add_argument("run", metavar="RUN", help="directory of the run, or its identity")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="default: %(default)s"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--human", action="store_true", help="show a window")
    where.add_argument(
        "--out", type=Path, metavar="FILE", help="default: output/episode.gif of the run"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the environment; default: %(default)s"
    )
