"""Measure the rule of `backend="auto"`: `python -m sweeps.bench.choice [--rounds N] [--json FILE]`.

Times, in turns and on one thread, a forward and a backward pass of single layers that are masked
and condensed, and compares the faster one with what `sparse_core.layers.choice.condensed_pays`
picks. The optimizer's step is left out: it favours condensed layers. Exits with 1 if the rule picks
one that is slower by more than 10 %.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator

from sweeps.bench.command import exit_code, output, plain_parser, positive
from sweeps.bench.timing import Record, in_turns, machine, write_json

SHAPES = ((17, 256), (64, 64), (256, 256), (1024, 1024), (768, 3072), (3072, 768))
SPARSITIES = (0.8, 0.9, 0.95, 0.99)
GROUPS = (1, 2, 4)
TOLERANCE = 1.1


def cases() -> Iterator[tuple[tuple[int, int], float, int]]:
    """Yield shapes, sparsities and groups; groups above 1 at 90 % only."""
    for shape in SHAPES:
        for sparsity in SPARSITIES:
            for group in GROUPS if sparsity == 0.9 else GROUPS[:1]:
                if (1 - sparsity) * shape[0] >= 1:
                    yield shape, sparsity, group


def training_step(
    shape: tuple[int, int], sparsity: float, group: int, batch: int, backend: str
) -> Callable[[], object]:
    """Return a forward and a backward pass of one layer, input gradient included."""
    import torch
    from torch import nn

    from sparse_core import SparseConfig, sparsify

    torch.manual_seed(0)
    layer = nn.Linear(*shape)
    config = SparseConfig(
        method="static",
        sparsity=sparsity,
        structure="constant_fan_in",
        group=group,
        distribution="uniform",
        backend=backend,
    )
    sparsify(layer, config)
    x = torch.randn(batch, shape[0], requires_grad=True)
    dy = torch.randn(batch, shape[1])

    def step() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x).backward(dy)

    return step


def main(arguments: list[str] | None = None) -> int:
    """Measure, print where the rule errs, and return 1 if it errs by more than 10 %."""
    parser = plain_parser("sweeps.bench.choice", __doc__)
    parser.add_argument("--json", type=output, help="file to write one record a measurement to")
    parser.add_argument("--batch", type=positive, default=256)
    parser.add_argument("--rounds", type=positive, default=15, help="blocks of each backend")
    parser.add_argument(
        "--clock",
        choices=("wall", "thread"),
        default="wall",
        help="`thread` counts the thread's own time, for machines that others use",
    )
    given = parser.parse_args(arguments)

    import torch

    from sparse_core.layers.choice import condensed_pays

    torch.set_num_threads(1)
    clock = time.thread_time if given.clock == "thread" else time.perf_counter
    for key, value in machine().items():
        print(f"{key}: {value}")
    records: list[Record] = []
    wrong = 0
    for shape, sparsity, group in cases():
        steps = {
            backend: training_step(shape, sparsity, group, given.batch, backend)
            for backend in ("masked", "condensed")
        }
        rounds = [in_turns(steps, rounds=1, clock=clock) for _ in range(given.rounds)]
        medians = {name: statistics.median(r[name] for r in rounds) for name in steps}
        ratio = statistics.median(r["masked"] / r["condensed"] for r in rounds)
        picks = condensed_pays(shape[1], shape[0], 1 - sparsity, group, given.batch)
        loss = 1 / ratio if picks else ratio
        wrong += loss > TOLERANCE
        remark = f"  {loss - 1:.0%} slower" if loss > 1 else ""
        remark += "  ERRS" if loss > TOLERANCE else ""
        print(
            f"{shape[0]:5d}x{shape[1]:<5d}{sparsity:7.1%} g={group}  "
            f"masked {medians['masked']:8.0f} us  condensed {medians['condensed']:8.0f} us  "
            f"x{ratio:5.2f}  picks {'condensed' if picks else 'masked':9s}{remark}"
        )
        for name, median in medians.items():
            records.append(
                Record("choice", *shape, given.batch, sparsity, 1, group, name, median, None)
            )
    print(f"the rule errs by more than {TOLERANCE - 1:.0%} in {wrong} of {len(records) // 2} cases")
    if given.json:
        write_json(given.json, records)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(exit_code("sweeps.bench.choice", main))
