"""Training steps of networks for images, batch 128, as `dst train vision` makes them.

    dst bench vision --threads 1

Forward and backward pass and SGD with momentum on images of 32 x 32: dense, masked, and with
`backend="auto"` in rows of their own and in groups of four, all layers sparse by ERK with constant
fan-in. One median each, in turns, on random images.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

from sweeps.bench.command import Calls, Case, Setting, exit_code, run
from sweeps.bench.timing import Record, records

BATCH = 128
SPARSITIES = (0.9, 0.95)
GROUPS = (1, 4)
NETWORKS = {
    "resnet8": ("resnet8", 16, None),
    "resnet8x2": ("resnet8", 32, None),
    "vit": ("vit_tiny", 192, 4),
    "wrn": ("wrn22-2", 2, None),
}
"""Case -> network, width and depth."""


def _case(name: str) -> Case:
    def measured(setting: Setting) -> Iterator[list[Record]]:
        for sparsity in SPARSITIES[:1] if setting.quick else SPARSITIES:
            calls: Calls = {"dense": _step(name, "masked", 0.0, 1)}
            calls["masked"] = _step(name, "masked", sparsity, 1)
            for group in GROUPS:
                calls[f"auto:{group}"] = _step(name, "auto", sparsity, group)
            medians = setting.turns(calls)
            facts = (3 * 32 * 32, 10), BATCH, sparsity, setting.threads
            found = records(name, *facts, medians, dict.fromkeys(medians, 0.0), 1.0)
            yield [replace(record, gflops=None, of_peak=None) for record in found]

    network, width, _ = NETWORKS[name]
    measured.__doc__ = f"Steps of {network}, width {width}."
    return measured


def _step(name: str, backend: str, sparsity: float, group: int) -> Callable[[], object]:
    """Return a training step; `sparsity=0` for a dense network."""
    import torch
    from torch.nn.functional import cross_entropy

    from sparse_core.config import SparseConfig
    from supervised.vision.build import make_model, optimizer_of
    from supervised.vision.spec import VisionSpec

    method = "srigl" if sparsity else "dense"
    sparse = SparseConfig(method=method, sparsity=sparsity, backend=backend, group=group)
    network, width, depth = NETWORKS[name]
    spec = VisionSpec(network=network, width=width, depth=depth, batch_size=BATCH, sparse=sparse)
    torch.manual_seed(0)
    model, engine = make_model(spec, (3, 32, 32), 10)
    optimizer = optimizer_of(spec, model.parameters())
    engine.attach(optimizer)
    x = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (BATCH,))

    def call() -> object:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return call


CASES: dict[str, Case] = {name: _case(name) for name in NETWORKS}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    return run("dst bench vision", __doc__, CASES, arguments, long=("wrn",))


if __name__ == "__main__":
    sys.exit(exit_code("dst bench vision", main))
