"""Speed of condensed layers as users have them, torch modules under autograd: `dst bench layers`.

Measures, in one run and in turns, forward and backward passes of single layers, chains of three
layers with ReLU between them, training steps with Adam, forward passes without gradients, and the
bytes of weights, gradients and Adam's state. The contestants are `torch.nn.Linear`, a mask over it
(what a simulation of sparsity costs), a dense layer of half the width, and the libraries sparselab
and sparseprop where they are installed (extra `peers`). Beside a ratio stands the rate of useful
operations, two for each active weight, sample and product, and its fraction of the core's
multiply-add peak, which does not depend on the machine's BLAS.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from sweeps.bench.command import Calls, Case, Setting, exit_code, run
from sweeps.bench.timing import Record, records

SHAPES = ((256, 256), (1024, 1024), (768, 3072), (3072, 768))
SPARSITIES = (0.9, 0.95, 0.99)
GROUPS = (1, 4)
BATCH = 256


def layer(setting: Setting) -> Iterator[list[Record]]:
    """Forward and backward passes of one layer, gradient of the input included."""
    for shape in SHAPES[1:2] if setting.quick else SHAPES:
        yield from _training("layer", shape, setting, adam=False)


def chain(setting: Setting) -> Iterator[list[Record]]:
    """Forward and backward passes of three layers of one width with ReLU between them."""
    yield from _training("chain", (256,) * 4, setting, adam=False)


def step(setting: Setting) -> Iterator[list[Record]]:
    """Training steps of three layers with Adam."""
    for width in (256,) if setting.quick else (256, 1024):
        yield from _training("step", (width,) * 4, setting, adam=True)


def _training(
    case: str, widths: tuple[int, ...], setting: Setting, adam: bool
) -> Iterator[list[Record]]:
    from sweeps.bench import modules

    for sparsity in SPARSITIES[:1] if setting.quick else SPARSITIES:
        nets = modules.contestants(widths, sparsity, GROUPS)
        calls: Calls = {
            name: modules.training(net, BATCH, widths, adam=adam) for name, net in nets.items()
        }
        medians = setting.turns(calls)
        work = modules.training_work(nets, BATCH, input_gradient=not adam)
        shape = (widths[0], widths[-1])
        yield records(case, shape, BATCH, sparsity, setting.threads, medians, work, setting.peak)


def forward(setting: Setting) -> Iterator[list[Record]]:
    """Forward passes without gradients."""
    from sweeps.bench import modules

    for shape in SHAPES[1:2] if setting.quick else SHAPES:
        nets = modules.contestants(shape, 0.9, GROUPS)
        for batch in (1, 8, 64, 256):
            calls: Calls = {
                name: modules.inference(net, batch, shape[0]) for name, net in nets.items()
            }
            medians = setting.turns(calls)
            work = modules.forward_work(nets, batch)
            yield records(
                "forward", shape, batch, 0.9, setting.threads, medians, work, setting.peak
            )


def memory(setting: Setting) -> Iterator[list[Record]]:
    """Bytes of weights and indices, gradients and Adam's state after a step."""
    from sweeps.bench import modules

    shape = (1024, 1024)
    for sparsity in SPARSITIES[:1] if setting.quick else SPARSITIES:
        nets = modules.contestants(shape, sparsity, GROUPS, peers=False)
        sizes = {name: modules.training_bytes(net, BATCH, shape) for name, net in nets.items()}
        found = []
        for name, size in sizes.items():
            contestant, _, group = name.partition(":")
            ratio = size / sizes["dense"]
            found.append(
                Record(
                    "memory", *shape, BATCH, sparsity, setting.threads, int(group or 1),
                    contestant, None, ratio, size,
                )
            )  # fmt: skip
        yield found


CASES: dict[str, Case] = {
    "layer": layer,
    "chain": chain,
    "step": step,
    "forward": forward,
    "memory": memory,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    return run("dst bench layers", __doc__, CASES, arguments)


if __name__ == "__main__":
    sys.exit(exit_code("dst bench layers", main))
