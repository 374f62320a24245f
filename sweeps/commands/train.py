"""`dst train`: one run in this process, in a directory like any other run's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sparse_core.checks import InputError
from sweeps.language.grid import Run
from sweeps.launchers.environment import worker_environment
from sweeps.results.facts import extra, still, updates
from sweeps.results.tables import duration, number
from sweeps.runs import prolonging, worker
from sweeps.store.directory import RunDir, prepare
from sweeps.store.validity import is_number


class RunFailed(Exception):
    """The runner raised: one line that says what, and where its traceback is."""


RUNS = Path("runs")


def train(
    run: Run,
    out: Path | None,
    threads: int,
    console: Console,
    runs_dir: Path = RUNS,
    shorter: Path | None = None,
) -> None:
    """Do a run unless its directory holds its result already, and print what came out.

    Args:
        run: The run.
        out: Its directory; None is `<runs_dir>/train/<run_id>`.
        threads: Threads of each numerical library, none of which is loaded yet.
        console: Where to show progress and result.
        runs_dir: Where runs have their directories.
        shorter: Directory of a run from whose end this one goes on; None: it begins from zero.

    Raises:
        InputError: If the directory belongs to another run, or another process holds it; or if
            only running found out that the input is wrong. If it did so before anything was done,
            a directory made for it is gone then; what a run has written never is.
        RunFailed: If there is no result.
    """
    folder = RunDir(out or runs_dir / "train" / run.run_id)
    made = [path for path in (folder.path, *folder.path.parents) if not path.exists()]
    part = None if shorter is None else prolonging.part(run, RunDir(shorter))
    prepare(folder, prolonging.record_of(run, folder, part))
    if folder.result() is not None:
        console.print("This run has its result already.")
    else:
        os.environ.update(worker_environment(threads, os.environ))
        code = _execute(folder, console)
        if code == worker.BUSY:
            raise InputError(
                f"out={str(folder.path)!r}: another process is at this run", field="out"
            )
        if code == worker.FAILED:
            raise _failure(folder, made)
    _print_result(folder, run, console)


def _failure(folder: RunDir, made: Sequence[Path]) -> Exception:
    """Return what to raise about a failed run.

    An `InputError` is one even if only running could find it, such as an environment of the wrong
    kind. If it came before anything was done, the directories that were made for it go.
    """
    error = folder.error() or {}
    message = " ".join(str(error.get("message")).split())
    if error.get("input") is not True:
        where = folder.path / "error.json"
        return RunFailed(f"{error.get('type')}: {message} (traceback in {where})")
    if made and not error.get("done"):
        folder.remove_unused()
        for path in made[1:]:
            with contextlib.suppress(OSError):
                path.rmdir()
    return InputError(message)


def _execute(folder: RunDir, console: Console) -> int:
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=1.0, numbers="")

        def observe(done: float, numbers: Mapping[str, float]) -> None:
            said = "  ".join(f"{name} {number(value)}" for name, value in numbers.items())
            progress.update(task, completed=done, numbers=said)

        return worker.execute(folder, observe)


def _print_result(folder: RunDir, run: Run, console: Console) -> None:
    result = folder.result()
    if result is None:
        raise RunFailed(f"no valid result in {folder.path}")
    factor = 100 if run.kind.percent else 1
    extras = {k: value for k, value in extra(run.kind, result).items() if value is not None}
    sparsity = result["sparsity"]
    count = {key: sum(layer[key] for layer in result["layers"]) for key in ("active", "total")}
    covered = {key: sparsity.get(key, count[key]) for key in count}
    lines = {
        run.kind.score: number(factor * result["score"]),
        **{heading: number(extras[key]) for key, heading in run.kind.extra if key in extras},
        "sparsity": f"{sparsity['achieved']:.4f} (requested {sparsity['requested']:.4f}), "
        f"{covered['active']:,} of {covered['total']:,} weights active",
        **_all_weights(count, covered),
        **_topology(result),
        "wall time": duration(result["provenance"]["wall_s"]),
        "result": str(folder.path / "result.json"),
    }
    width = max(map(len, lines))
    for name, value in lines.items():
        console.print(f"{name:<{width}}  {value}", highlight=False, markup=False, soft_wrap=True)


def _all_weights(count: Mapping[str, int], covered: Mapping[str, int]) -> dict[str, str]:
    """Return the line on all weights, if some are in layers that the sparsity is not about."""
    if count == covered or not covered["total"]:
        return {}
    said = f"{count['active']:,} of {count['total']:,} active, with the layers that stay dense"
    return {"weights": said}


def _topology(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines on updates of the topology, if any network's method has some."""
    if updates(result) is None:
        return {}
    found = {name: count for name, count in result["updates"].items() if is_number(count)}
    counts = ", ".join(f"{name} {count:,}" for name, count in found.items())
    said = still(result)
    return {"updates": counts} | ({"unmoved": said} if said else {})
