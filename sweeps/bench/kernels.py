"""Speed of the condensed kernels, called from Python with NumPy arrays: `dst bench kernels`.

Measures, in one run and in turns, forward and backward passes of layers with packing included,
each of their three products alone on packed tiles, forward passes, products with one sample, a
chain of three layers, a layer of a million by a million, several threads against one, and bytes.
The contestants are `torch.nn.Linear`, a dense layer of half the width (what removing neurons leaves
of a 90 % sparse layer), CSR matrices of torch and SciPy, and the libraries sparselab and sparseprop
where they are installed (extra `peers`). Beside a ratio stands the rate of useful operations, two
for each active weight, sample and product, and its fraction of the core's multiply-add peak, which
does not depend on the machine's BLAS.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from sweeps.bench.command import Calls, Case, Setting, exit_code, run
from sweeps.bench.timing import Record, records
from sweeps.launchers.environment import importable

SHAPES = ((256, 256), (1024, 1024), (768, 3072), (3072, 768))
SPARSITIES = (0.9, 0.95, 0.99)


def layer(setting: Setting) -> Iterator[list[Record]]:
    """Forward and backward passes, packing included."""
    from sweeps.bench.contestants import Layer

    for shape in SHAPES[1:2] if setting.quick else SHAPES:
        for sparsity in SPARSITIES[:1] if setting.quick else SPARSITIES:
            made = Layer(*shape, 256, sparsity, (1, 2, 4, 8))
            medians = setting.turns(made.training(setting.threads))
            work = made.work(medians, 3)
            yield records(
                "layer", shape, 256, sparsity, setting.threads, medians, work, setting.peak
            )


def products(setting: Setting) -> Iterator[list[Record]]:
    """The forward pass, dx and dw by themselves, on packed tiles."""
    from sweeps.bench.contestants import Layer

    for shape in SHAPES[1:2] if setting.quick else SHAPES:
        for sparsity in SPARSITIES[:1] if setting.quick else SPARSITIES:
            made = Layer(*shape, 256, sparsity, (1, 2, 4, 8))
            for name, calls in made.products(setting.threads).items():
                medians = setting.turns(calls)
                work = made.work(medians, 1)
                yield records(
                    name, shape, 256, sparsity, setting.threads, medians, work, setting.peak
                )


def forward(setting: Setting) -> Iterator[list[Record]]:
    """Forward passes of small and large batches."""
    from sweeps.bench.contestants import Layer

    for shape in SHAPES[1:2] if setting.quick else SHAPES:
        for batch in (8, 64, 256):
            made = Layer(*shape, batch, 0.9, (1, 4))
            medians = setting.turns(made.inference(setting.threads))
            work = made.work(medians, 1)
            yield records(
                "forward", shape, batch, 0.9, setting.threads, medians, work, setting.peak
            )


def gemv(setting: Setting) -> Iterator[list[Record]]:
    """Products with one sample."""
    from sweeps.bench.contestants import Layer

    for shape in SHAPES[3:] if setting.quick else SHAPES:
        for sparsity in SPARSITIES[:1] if setting.quick else SPARSITIES:
            made = Layer(*shape, 1, sparsity, (1, 2, 4, 8))
            medians = setting.turns(made.one_sample(setting.threads))
            work = made.work(medians, 1)
            yield records("gemv", shape, 1, sparsity, setting.threads, medians, work, setting.peak)


def chain(setting: Setting) -> Iterator[list[Record]]:
    """Three layers of one width with ReLU between them."""
    from sweeps.bench.contestants import Chain

    for sparsity in SPARSITIES[:1] if setting.quick else SPARSITIES:
        made = Chain(256, 256, sparsity, (1, 2, 4, 8))
        medians = setting.turns(made.training(setting.threads))
        work = made.work(medians)
        yield records(
            "chain", (256, 256), 256, sparsity, setting.threads, medians, work, setting.peak
        )


def scaling(setting: Setting) -> Iterator[list[Record]]:
    """Forward and backward passes on all threads and on one, in turns."""
    from sweeps.bench.contestants import Layer

    for shape in SHAPES[1:2] if setting.quick else SHAPES[1:]:
        for sparsity in SPARSITIES[:1] if setting.quick else SPARSITIES:
            for group in (1, 4):
                made = Layer(*shape, 256, sparsity, (group,))
                calls: Calls = {str(n): made.condensed_step(group, n) for n in (1, setting.threads)}
                for n, median in setting.turns(calls).items():
                    yield [
                        Record(
                            "layer", *shape, 256, sparsity, int(n), group, "condensed", median, None
                        )
                    ]


def memory(setting: Setting) -> Iterator[list[Record]]:
    """Bytes of weights, their gradients, Adam's two moments, and indices."""
    from sparse_core.kernels import plan
    from sparse_core.kernels.arguments import tile_size
    from sweeps.bench.contestants import random_pattern

    inputs, outputs = 1024, 1024
    dense = 4 * 4 * inputs * outputs
    yield [Record("memory", inputs, outputs, 1, 0.9, 1, 1, "dense", None, 1.0, dense)]
    for group in (1, 2, 4, 8):
        pattern = random_pattern(inputs, outputs, 0.9, group)
        if group == 1:
            tile = tile_size(256)
            for made in (plan.row_bands, plan.column_bands):
                made(pattern, tile, 1)
        size = 4 * 4 * pattern.size + pattern.nbytes
        yield [
            Record(
                "memory", inputs, outputs, 1, 0.9, 1, group, "condensed", None, size / dense, size
            )
        ]


def xmc(setting: Setting) -> Iterator[list[Record]]:
    """A step of a layer of a million by a million, in a process of its own."""
    features = 100_000 if setting.quick else 1_000_000
    command = [sys.executable, "-P", "-m", "sweeps.bench.xmc", "--threads", str(setting.threads)]
    command += ["--features", str(features), "--steps", "3" if setting.quick else "5"]
    child = subprocess.run(
        command, capture_output=True, text=True, check=True, env=importable(os.environ)
    )
    result = json.loads(child.stdout)
    median = 1e6 * statistics.median(result["seconds"])
    peak = int(result["peak_bytes"])
    sparsity = 1 - 32 / features
    yield [
        Record(
            "xmc",
            features,
            features,
            32,
            sparsity,
            setting.threads,
            1,
            "condensed",
            median,
            None,
            peak,
        )
    ]


CASES: dict[str, Case] = {
    "layer": layer,
    "products": products,
    "forward": forward,
    "gemv": gemv,
    "chain": chain,
    "threads": scaling,
    "memory": memory,
    "xmc": xmc,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    return run("dst bench kernels", __doc__, CASES, arguments, several=("threads",))


if __name__ == "__main__":
    sys.exit(exit_code("dst bench kernels", main))
