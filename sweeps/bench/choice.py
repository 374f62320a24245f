"""Measure what `backend="auto"` picks: `python -m sweeps.bench.choice [--rounds N] [--json FILE]`.

Times, in turns and on one thread, a forward and a backward pass of single layers and of networks
that are masked, condensed, and as `auto` has them. The optimizer's step is left out: it favours
condensed layers. Exits with 1 if `auto` is slower than the faster of the other two by more than
10 % anywhere. Where it has the same layers condensed as one of them, it is as fast, and only what
it picked is of interest.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

from sweeps.bench.command import exit_code, output, plain_parser, positive
from sweeps.bench.timing import Record, in_turns, machine, write_json

SHAPES = ((17, 256), (64, 64), (256, 256), (1024, 1024), (768, 3072), (3072, 768))
NETWORKS = ((17, 64, 64, 6), (17, 256, 256, 6), (784, 300, 100, 10))
SPARSITIES = (0.8, 0.9, 0.95, 0.99)
GROUPS = (1, 2, 4)
BATCHES = (64, 256)
TOLERANCE = 1.1

Widths = tuple[int, ...]


def cases() -> Iterator[tuple[Widths, float, int]]:
    """Yield widths, sparsities and groups; groups above 1 at 90 % only, networks there alone."""
    for widths in (*SHAPES, *NETWORKS):
        for sparsity in SPARSITIES if len(widths) == 2 else (0.9,):
            for group in GROUPS if sparsity == 0.9 else GROUPS[:1]:
                if (1 - sparsity) * widths[0] >= 1:
                    yield widths, sparsity, group


def training_step(
    widths: Widths, sparsity: float, group: int, batch: int, backend: str
) -> tuple[Callable[[], object], list[bool]]:
    """Return a forward and a backward pass, input gradient included, and what is condensed."""
    import torch
    from torch import nn

    from sparse_core import SparseConfig, sparsify
    from sparse_core.layers.condensed import CondensedLinear

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    config = SparseConfig(
        method="static",
        sparsity=sparsity,
        structure="constant_fan_in",
        group=group,
        distribution="uniform",
        backend=backend,
    )
    engine = sparsify(net, config, batch=batch)
    x = torch.randn(batch, widths[0], requires_grad=True)
    dy = torch.randn(batch, widths[-1])

    def step() -> None:
        net.zero_grad()
        x.grad = None
        net(x).backward(dy)

    return step, [isinstance(tensor.layer, CondensedLinear) for tensor in engine.tensors]


def loss(medians: dict[str, float], picks: list[bool]) -> float:
    """Return how many times longer what `auto` picked takes than the faster of the two."""
    best = min(medians["masked"], medians["condensed"])
    if all(picks):
        return medians["condensed"] / best
    return (medians["auto"] if any(picks) else medians["masked"]) / best


def main(arguments: list[str] | None = None) -> int:
    """Measure, print what `auto` picks, and return 1 if it errs by more than 10 %."""
    parser = plain_parser("sweeps.bench.choice", __doc__)
    parser.add_argument("--json", type=output, help="file to write one record a measurement to")
    parser.add_argument("--batch", type=positive, nargs="+", default=BATCHES)
    parser.add_argument("--rounds", type=positive, default=15, help="blocks of each backend")
    parser.add_argument(
        "--clock",
        choices=("wall", "thread"),
        default="wall",
        help="`thread` counts the thread's own time, for machines that others use",
    )
    given = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)
    clock = time.thread_time if given.clock == "thread" else time.perf_counter
    for key, value in machine().items():
        print(f"{key}: {value}")
    records: list[Record] = []
    losses = []
    for batch in given.batch:
        for widths, sparsity, group in cases():
            names = ("masked", "condensed", "auto")
            made = {n: training_step(widths, sparsity, group, batch, n) for n in names}
            picks = made["auto"][1]
            mixed = any(picks) and not all(picks)
            steps = {name: step for name, (step, _) in made.items() if name != "auto" or mixed}
            # Ratios of one round meet the same moods of the machine.
            rounds = [in_turns(steps, rounds=1, clock=clock) for _ in range(given.rounds)]
            medians = {name: statistics.median(r[name] for r in rounds) for name in steps}
            losses.append(statistics.median(loss(r, picks) for r in rounds))
            remark = f"  {losses[-1] - 1:.0%} slower" if losses[-1] > 1.005 else ""
            remark += "  ERRS" if losses[-1] > TOLERANCE else ""
            times = "  ".join(f"{name} {median:8.0f} us" for name, median in medians.items())
            picked = "".join("c" if condensed else "m" for condensed in picks)
            print(
                f"{'-'.join(map(str, widths)):>14s} batch {batch:<4d}{sparsity:6.1%} g={group}  "
                f"{times}  picks {picked}{remark}",
                flush=True,
            )
            for name, median in medians.items():
                shape = widths[0], widths[-1]
                records.append(
                    Record("choice", *shape, batch, sparsity, 1, group, name, median, None)
                )
    wrong = sum(found > TOLERANCE for found in losses)
    print(f"auto errs by more than {TOLERANCE - 1:.0%} in {wrong} of {len(losses)} cases")
    if given.json:
        write_json(given.json, records)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(exit_code("sweeps.bench.choice", main))
