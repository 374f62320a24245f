"""Timing of contestants in turns, and what a report of it has to say.

Contestants are timed in short blocks of calls, one block of each after the other, round after
round, so that a change in the machine's speed meets all of them; the blocks are long enough that
none of them pays for caches that another has filled. All rounds count.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """One measurement, as it is written to JSON.

    `gflops` is the rate of the useful operations, two for each active weight, sample and product;
    `of_peak` its fraction of the multiply-add peak of as many cores as there are threads.
    """

    case: str
    inputs: int
    outputs: int
    batch: int
    sparsity: float
    threads: int
    group: int
    contestant: str
    median_us: float | None
    ratio_to_dense: float | None
    bytes: int | None = None
    gflops: float | None = None
    of_peak: float | None = None

    def row(self) -> dict[str, object]:
        """Return the record with the names of the report."""
        names = {"inputs": "in", "outputs": "out"}
        fields = {names.get(key, key): value for key, value in asdict(self).items()}
        measured = ("bytes", "gflops", "of_peak")
        return {key: value for key, value in fields.items() if key not in measured or value}


def in_turns(
    contestants: dict[str, Callable[[], object]],
    rounds: int = 15,
    block: float = 0.01,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Time contestants in turns.

    Args:
        contestants: What to call, by name.
        rounds: Blocks of each contestant, five or more for a number that is to be published.
        block: Seconds a block should take.
        clock: What measures: `time.perf_counter`, or `time.thread_time` for one thread on a
            machine that others use.

    Returns:
        Median microseconds of a call, by name.
    """
    calls = {}
    for name, call in contestants.items():
        call()
        call()
        start = clock()
        call()
        calls[name] = max(1, min(1000, round(block / (clock() - start))))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            start = clock()
            for _ in range(calls[name]):
                call()
            times[name].append((clock() - start) / calls[name])
    return {name: 1e6 * statistics.median(samples) for name, samples in times.items()}


def records(
    case: str,
    shape: tuple[int, int],
    batch: int,
    sparsity: float,
    threads: int,
    medians: Mapping[str, float],
    work: Mapping[str, float],
    peak: float,
) -> list[Record]:
    """Turn medians into records.

    Args:
        case: What was measured.
        shape: Inputs and outputs.
        batch: Samples of a call.
        sparsity: Of the sparse contestants.
        threads: Threads of all contestants.
        medians: Microseconds by contestant, `condensed:4` meaning group 4.
        work: Useful floating-point operations of a call, by contestant.
        peak: GFLOP/s that all threads could reach.
    """
    found = []
    for name, median in medians.items():
        contestant, _, group = name.partition(":")
        ratio = medians["dense"] / median if "dense" in medians else None
        gflops = 1e-3 * work[name] / median
        found.append(
            Record(
                case, *shape, batch, sparsity, threads, int(group or 1), contestant, median, ratio,
                gflops=gflops, of_peak=gflops / peak,
            )
        )  # fmt: skip
    return found


def machine() -> dict[str, str]:
    """Return processor, cores, thread settings and versions."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith(("model name", "cpu family", "model\t"))
        ]
        if len(names) >= 3:
            family, number, name = names[:3]
            model = f"{name} (family {family}, model {number})"
    facts = {"processor": model, "cores": str(os.cpu_count()), "python": platform.python_version()}
    for package in ("numpy", "numba", "llvmlite", "torch", "scipy", "sparselab", "sparseprop"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "absent"
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY"):
        facts[name] = os.environ.get(name, "")
    return facts


def table(records: Iterable[Record]) -> str:
    """Return records as text: a line for each case, dense first, others with their ratio."""
    lines: dict[tuple[object, ...], list[str]] = {}
    for r in records:
        key = (r.case, f"{r.inputs}x{r.outputs}", r.batch, f"{r.sparsity:.4%}", r.threads)
        name = r.contestant if r.group == 1 else f"{r.contestant} g={r.group}"
        text = name
        if r.median_us is not None:
            text += f" {r.median_us:.0f}us"
        if r.bytes is not None:
            text += f" {r.bytes / 2**20:.1f}MiB"
        remarks = []
        if r.ratio_to_dense is not None and r.contestant != "dense":
            remarks.append(f"x{r.ratio_to_dense:.2f}")
        if r.gflops is not None and r.of_peak is not None:
            remarks.append(f"{r.gflops:.1f} GFLOP/s, {r.of_peak:.0%} of peak")
        if remarks:
            text += f" ({', '.join(remarks)})"
        lines.setdefault(key, []).append(text)
    return "\n".join(
        f"{case:8s}{shape:>17s} batch {batch:<4d} {sparsity:>9s} {threads} thread(s): "
        + "; ".join(cells)
        for (case, shape, batch, sparsity, threads), cells in lines.items()
    )


def write_json(path: Path, records: Iterable[Record]) -> None:
    """Write one object for each measurement."""
    rows = [record.row() for record in records]
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(rows, indent=1) + "\n")
    os.replace(temporary, path)
