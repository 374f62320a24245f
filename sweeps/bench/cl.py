"""Benchmark of continual learning: `dst bench cl [--json FILE] [--quick]`, one thread.

An MLP 784-1024-1024-10 learns its second task, 90 % sparse, in batches of 256: a training iteration
(forward, backward, step of Adam, hooks included) with condensed and with masked weights, and the
evaluation of the first task, against a dense network of the same layers. All contestants are timed
in turns in one run. Sparse networks have `sparse_core.optim.Adam`, as those of `dst train cl` do;
the dense one has torch's, as it comes and, beside it, fused. An iteration that also moves the
topology, one in a hundred by default, is timed apart. `condensed` has weights in any place (RigL),
`g=4` groups of four neurons (SRigL).
What compiled passes bring is measured apart, on a small network too, with a whole iteration of
Avalanche beside the bare one (`sweeps.bench.cl_compiled`).
With `--earlier N --share all` N tasks are finished, and later ones read weights of theirs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from continual.tasks.rules import SHARING_POLICIES
from sparse_core.checks import InputError
from sweeps.bench import cl_compiled
from sweeps.bench.command import exit_code, parser, positive, set_threads
from sweeps.bench.timing import Record, in_turns, machine, table, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from continual import TaskMasks

WIDTHS = (784, 1024, 1024, 10)
BATCH = 256
SPARSITY = 0.9
GROUPS = (1, 4)
RARELY = 10**9
TRAINING_BAR = 3.0
"""Masked over condensed time of a training iteration, group 1."""
EVALUATION_BAR = 4.0
"""Dense over condensed time of an evaluation, group 1."""

Calls = dict[str, Callable[[], object]]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print a table and the two ratios, and write records."""
    options = parser("dst bench cl", __doc__)
    options.add_argument("--share", choices=SHARING_POLICIES, default="none", help="default: none")
    options.add_argument(
        "--earlier", type=positive, default=1, metavar="N", help="finished tasks; default: 1"
    )
    chosen = options.parse_args(arguments)
    set_threads(chosen.threads)
    import torch

    rounds = 5 if chosen.quick else chosen.rounds
    clock = time.perf_counter if chosen.clock == "wall" else time.thread_time
    turns = partial(in_turns, rounds=rounds, block=0.05, clock=clock)
    x = torch.randn(BATCH, WIDTHS[0])
    y = torch.randint(0, WIDTHS[-1], (BATCH,))
    compete = partial(contestants, earlier=chosen.earlier, share=chosen.share)
    try:
        models = compete(RARELY)
    except InputError as error:
        options.error(f"--earlier {chosen.earlier} --share {chosen.share}: {error}")
    print(json.dumps(machine(), indent=1), flush=True)
    found = records("eval", turns(evaluations(models, x)))
    found += records("train", turns(iterations(compete(RARELY), x, y)))
    found += records("update", turns(iterations(compete(1), x, y)))
    found += cl_compiled.measure(turns)
    print(table(found), flush=True)
    times = {(r.case, r.contestant, r.group): r.median_us or 0.0 for r in found}
    training = times["train", "masked", 1] / times["train", "condensed", 1]
    evaluation = times["eval", "dense", 1] / times["eval", "condensed", 1]
    print(f"training iteration: {against_bar(training, 'masked', TRAINING_BAR)}")
    print(f"evaluation of an earlier task: {against_bar(evaluation, 'dense', EVALUATION_BAR)}")
    if chosen.json is not None:
        write_json(chosen.json, found)
    return 0


def against_bar(ratio: float, rival: str, bar: float) -> str:
    """Say a ratio, the bar that it is meant to reach, and whether it does not."""
    missed = "" if ratio >= bar else ": NOT REACHED"
    return f"{ratio:.2f} times {rival} (bar {bar:g}{missed})"


def network() -> nn.Sequential:
    """Return the dense MLP."""
    from torch import nn

    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(WIDTHS):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def contestants(update_every: int, earlier: int = 1, share: str = "none") -> dict[str, TaskMasks]:
    """Return networks that move their topology every so many iterations."""
    make = partial(made, update_every=update_every, earlier=earlier, share=share)
    return {"masked": make("masked", 1)} | {f"condensed:{g}": make("condensed", g) for g in GROUPS}


def made(
    backend: str,
    group: int,
    update_every: int,
    earlier: int,
    share: str,
    method: str | None = None,
) -> TaskMasks:
    """Return a network that has learnt some tasks and began another; RigL or SRigL by default."""
    from continual import TaskMasks
    from sparse_core.config import SparseConfig

    method = method or ("rigl" if group == 1 else "srigl")
    config = SparseConfig(method=method, sparsity=SPARSITY, backend=backend, group=group)
    model = TaskMasks(network(), replace(config, update_every=update_every), share=share)
    for label in range(earlier):
        model.begin(label)
        model.end()
    model.begin(earlier)
    return model


def evaluations(models: dict[str, TaskMasks], x: Tensor) -> Calls:
    """Return calls that evaluate the latest finished task, and a dense network."""
    import torch

    def evaluation(forward: Callable[[], Tensor]) -> Callable[[], Tensor]:
        @torch.no_grad()
        def call() -> Tensor:
            return forward()

        return call

    dense = network().eval()
    calls: Calls = {"dense": evaluation(lambda: dense(x))}
    for name, model in models.items():
        calls[name] = evaluation(partial(model.forward, x, model.labels[-2]))
    return calls


def iterations(models: dict[str, TaskMasks], x: Tensor, y: Tensor) -> Calls:
    """Return calls that train for one iteration."""
    from torch.nn.functional import cross_entropy
    from torch.optim import Adam, Optimizer

    from sparse_core import optim

    def iteration(model: Any, optimizer: Optimizer) -> Callable[[], None]:
        def call() -> None:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return call

    dense, fused = network(), network()
    calls: Calls = {
        "dense": iteration(dense, Adam(dense.parameters())),
        "dense fused": iteration(fused, Adam(fused.parameters(), fused=True)),
    }
    for name, model in models.items():
        optimizer = optim.Adam([p for p in model.parameters() if p.requires_grad])
        model.attach(optimizer)
        calls[name] = iteration(model.train(), optimizer)
    return calls


def records(case: str, medians: dict[str, float]) -> list[Record]:
    """Turn medians by contestant, `condensed:4` meaning group 4, into records."""
    found = []
    for name, median in medians.items():
        contestant, _, group = name.partition(":")
        ratio = medians["dense"] / median if "dense" in medians else None
        shape, n = (WIDTHS[0], WIDTHS[-1]), int(group or 1)
        sparsity = 0.0 if contestant.startswith("dense") else SPARSITY
        found.append(Record(case, *shape, BATCH, sparsity, 1, n, contestant, median, ratio))
    return found


if __name__ == "__main__":
    sys.exit(exit_code("dst bench cl", main))
