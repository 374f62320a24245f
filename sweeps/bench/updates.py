"""What an update of the topology costs, in steps without one.

    dst bench updates --json docs/results/updates.json

A step with an update and one without are timed in turns, on two networks alike of which one moves
its topology at every step. What the one takes longer is the update, with all that it entails: the
dense gradient, the selection, weights and moments that move, target networks that follow, indices
that the next backward pass derives anew. Networks are those of SAC with HalfCheetah's sizes, all
three with their targets and optimizers, by Stable-Baselines3's own step and by the compiled one of
`dstrl`, and an MLP that learns its second task (`dst bench cl`). A mean over steps, with one update
in a hundred, stands beside the medians.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from sweeps.bench.command import Calls, exit_code, parser, set_threads
from sweeps.bench.timing import in_turns, machine

WIDTHS = (256, 1024)
SPARSITY = 0.9
KINDS = (("rigl", 1), ("srigl", 1), ("srigl", 4))
INTERVAL = 100
"""Steps between two updates, the default."""

RARELY = 10**9
BATCH = 256


@dataclass(frozen=True)
class Record:
    """One measurement, as it is written to JSON.

    Attributes:
        network: `sac`, `dstrl sac` whose steps are compiled, or `task`.
        width: Of its hidden layers.
        method: What moves the topology.
        group: Neurons that share their inputs.
        step_ms: Median of a step without an update.
        update_ms: Median of a step with one.
        steps: What the update costs, in steps without one.
        mean_ms: Mean of a step where one in a hundred has an update.
    """

    network: str
    width: int
    method: str
    group: int
    step_ms: float
    update_ms: float
    steps: float
    mean_ms: float

    @classmethod
    def of(
        cls, network: str, width: int, method: str, group: int, without: float, within: float
    ) -> Record:
        """Compare the medians of a step without and within an update, in microseconds."""
        more = within - without
        numbers = without / 1e3, within / 1e3, more / without, (without + more / INTERVAL) / 1e3
        return cls(network, width, method, group, *(round(number, 3) for number in numbers))

    def line(self) -> str:
        """Return it as text."""
        return (
            f"{self.network:>9s} {self.width:5d} {self.method:>6s} group {self.group}: "
            f"{self.step_ms:8.2f} ms a step, {self.update_ms:8.2f} ms with an update, which costs "
            f"{self.steps:.2f} steps; mean {self.mean_ms:.2f} ms"
        )


def sac_step(
    width: int, method: str, group: int, compiled: bool, every: int
) -> Callable[[], object]:
    """Return a gradient step of SAC with a buffer full of random transitions."""
    from stable_baselines3.common.logger import Logger

    from dstrl import SAC, SparseSACPolicy
    from sweeps.bench.learning import FreeEnv, arguments, fill

    sparse = dict(
        method=method, sparsity=SPARSITY, backend="condensed", group=group, update_every=every
    )
    kwargs: dict[str, Any] = {"net_arch": [width, width], "sparse": sparse}
    model = SAC(SparseSACPolicy, FreeEnv(), policy_kwargs=kwargs, **arguments("sac"))
    model.compiled = compiled
    model.set_logger(Logger(None, []))
    fill(model.replay_buffer)
    return lambda: model.train(1, BATCH)


def task_step(method: str, group: int, every: int) -> Callable[[], object]:
    """Return a training iteration of the second task of an MLP."""
    import torch

    from sweeps.bench import cl

    x = torch.randn(cl.BATCH, cl.WIDTHS[0])
    y = torch.randint(0, cl.WIDTHS[-1], (cl.BATCH,))
    model = cl.made("condensed", group, every, earlier=1, share="none", method=method)
    return cl.iterations({"condensed": model}, x, y)["condensed"]


def measured(turns: Callable[[Calls], dict[str, float]], quick: bool) -> Iterator[Record]:
    """Yield a record for each network, method and group."""
    for name, compiled in (("sac", False), ("dstrl sac", True)):
        for width in WIDTHS[:1] if quick else WIDTHS:
            for method, group in KINDS:
                found = turns(_both(partial(sac_step, width, method, group, compiled)))
                yield Record.of(name, width, method, group, found["without"], found["within"])
    for method, group in KINDS:
        found = turns(_both(partial(task_step, method, group)))
        yield Record.of("task", 1024, method, group, found["without"], found["within"])


def _both(step: Callable[[int], Callable[[], object]]) -> Calls:
    return {"without": step(RARELY), "within": step(1)}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print a line for each measurement and write records."""
    chosen = parser("dst bench updates", __doc__).parse_args(arguments)
    set_threads(chosen.threads)
    print(json.dumps(machine(), indent=1), flush=True)
    clock = time.perf_counter if chosen.clock == "wall" else time.thread_time
    rounds = 5 if chosen.quick else chosen.rounds
    records = []
    for record in measured(partial(in_turns, rounds=rounds, block=0.05, clock=clock), chosen.quick):
        print(record.line(), flush=True)
        records.append(record)
    if chosen.json is not None:
        partial_file = chosen.json.with_name(chosen.json.name + ".tmp")
        partial_file.write_text(json.dumps([asdict(r) for r in records], indent=1) + "\n")
        os.replace(partial_file, chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("dst bench updates", main))
