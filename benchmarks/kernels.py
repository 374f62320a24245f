"""Benchmark of the condensed kernels: `python -m benchmarks.kernels [--json FILE] [--threads N]`.

Measures, in one run and in turns, forward and backward passes of layers with packing included,
forward passes, products with one sample, a chain of three layers, a layer of a million by a
million, two threads against one, and bytes. The contestants are `torch.nn.Linear`, a dense layer
of half the width (what removing neurons leaves of a 90 % sparse layer), CSR matrices of torch and
SciPy, and the libraries sparselab and sparseprop where they are installed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.timing import Record, in_turns, machine, table, write_json

SHAPES = ((256, 256), (1024, 1024), (768, 3072), (3072, 768))
SPARSITIES = (0.9, 0.95, 0.99)
Turns = Callable[[dict[str, Callable[[], object]]], dict[str, float]]
CASES = ("layer", "forward", "gemv", "chain", "threads", "memory", "xmc")


def records(
    case: str,
    shape: tuple[int, int],
    batch: int,
    sparsity: float,
    threads: int,
    medians: dict[str, float],
) -> list[Record]:
    """Turn medians by contestant, `condensed:4` meaning group 4, into records."""
    found = []
    for name, median in medians.items():
        contestant, _, group = name.partition(":")
        ratio = medians["dense"] / median if "dense" in medians else None
        found.append(
            Record(
                case, *shape, batch, sparsity, threads, int(group or 1), contestant, median, ratio
            )
        )
    return found


def layer(threads: int, turns: Turns, quick: bool) -> Iterator[list[Record]]:
    """Forward and backward passes, packing included."""
    from benchmarks.contestants import Layer

    for shape in SHAPES[1:2] if quick else SHAPES:
        for sparsity in SPARSITIES[:1] if quick else SPARSITIES:
            calls = Layer(*shape, 256, sparsity, (1, 2, 4, 8)).training(threads)
            yield records("layer", shape, 256, sparsity, threads, turns(calls))


def forward(threads: int, turns: Turns, quick: bool) -> Iterator[list[Record]]:
    """Forward passes of small and large batches."""
    from benchmarks.contestants import Layer

    for shape in SHAPES[1:2] if quick else SHAPES:
        for batch in (8, 64, 256):
            calls = Layer(*shape, batch, 0.9, (1, 4)).inference(threads)
            yield records("forward", shape, batch, 0.9, threads, turns(calls))


def gemv(threads: int, turns: Turns, quick: bool) -> Iterator[list[Record]]:
    """Products with one sample."""
    from benchmarks.contestants import Layer

    for shape in SHAPES[3:] if quick else SHAPES:
        for sparsity in SPARSITIES[:1] if quick else SPARSITIES:
            calls = Layer(*shape, 1, sparsity, (1, 2, 4, 8)).one_sample(threads)
            yield records("gemv", shape, 1, sparsity, threads, turns(calls))


def chain(threads: int, turns: Turns, quick: bool) -> Iterator[list[Record]]:
    """Three layers of one width with ReLU between them."""
    from benchmarks.contestants import Chain

    for sparsity in SPARSITIES[:1] if quick else SPARSITIES:
        calls = Chain(256, 256, sparsity, (1, 2, 4, 8)).training(threads)
        yield records("chain", (256, 256), 256, sparsity, threads, turns(calls))


def scaling(threads: int, turns: Turns, quick: bool) -> Iterator[list[Record]]:
    """Forward and backward passes on all threads and on one, in turns."""
    from benchmarks.contestants import Layer

    if threads < 2:
        return
    for shape in SHAPES[1:2] if quick else SHAPES[1:]:
        for sparsity in SPARSITIES[:1] if quick else SPARSITIES:
            for group in (1, 4):
                made = Layer(*shape, 256, sparsity, (group,))
                calls: dict[str, Callable[[], object]] = {
                    str(n): made.condensed_step(group, n) for n in (1, threads)
                }
                for n, median in turns(calls).items():
                    yield [
                        Record(
                            "layer", *shape, 256, sparsity, int(n), group, "condensed", median, None
                        )
                    ]


def memory(threads: int, turns: Turns, quick: bool) -> Iterator[list[Record]]:
    """Bytes of weights, their gradients, Adam's two moments, and indices."""
    from benchmarks.contestants import random_pattern

    inputs, outputs = 1024, 1024
    dense = 4 * 4 * inputs * outputs
    yield [Record("memory", inputs, outputs, 1, 0.9, 1, 1, "dense", None, 1.0, dense)]
    for group in (1, 2, 4, 8):
        pattern = random_pattern(inputs, outputs, 0.9, group)
        if group == 1:
            assert pattern.transposed.rows.size == pattern.nnz
        size = 4 * 4 * pattern.size + pattern.nbytes
        yield [
            Record(
                "memory", inputs, outputs, 1, 0.9, 1, group, "condensed", None, size / dense, size
            )
        ]


def xmc(threads: int, turns: Turns, quick: bool) -> Iterator[list[Record]]:
    """A step of a layer of a million by a million, in a process of its own."""
    features = 100_000 if quick else 1_000_000
    command = [sys.executable, "-m", "benchmarks.xmc", "--threads", str(threads)]
    command += ["--features", str(features), "--steps", "3" if quick else "5"]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(child.stdout)
    median = 1e6 * statistics.median(result["seconds"])
    peak = int(result["peak_bytes"])
    sparsity = 1 - 32 / features
    yield [
        Record("xmc", features, features, 32, sparsity, threads, 1, "condensed", median, None, peak)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print a table and write records."""
    parser = argparse.ArgumentParser(prog="benchmarks.kernels", description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write one record a measurement to")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15, help="blocks of each contestant")
    parser.add_argument("--quick", action="store_true", help="one shape and sparsity a case")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time of one thread, for a machine that others use",
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    chosen = parser.parse_args(arguments)
    if chosen.clock == "cpu" and chosen.threads > 1:
        parser.error("--clock cpu measures one thread only")
    for name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(chosen.threads)
    print(json.dumps(machine(), indent=1), flush=True)
    import torch

    torch.set_num_threads(chosen.threads)
    cases = dict(zip(CASES, (layer, forward, gemv, chain, scaling, memory, xmc), strict=True))
    turns = partial(
        in_turns,
        rounds=5 if chosen.quick else chosen.rounds,
        clock=time.perf_counter if chosen.clock == "wall" else time.thread_time,
    )
    everything = []
    for name in chosen.cases:
        for found in cases[name](chosen.threads, turns, chosen.quick):
            print(table(found), flush=True)
            everything += found
    if chosen.json is not None:
        write_json(chosen.json, everything)
    return 0


if __name__ == "__main__":
    sys.exit(main())
