"""Memory and time of output layers of up to a million labels, born sparse.

    dst bench large --json docs/results/large.json --plot docs/results/large.svg

Each layer has as many inputs as labels, and is trained in a process of its own: as a module
(`supervised.OneVsAll`, blocks of labels), with loss, SGD and updates of its topology, on bags of
100 random words with 5 labels each. Seconds of a step are a mean over all steps, those with an
update among them; the peak is that of the process, from its start on. `--plot FILE` draws memory
against labels.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sweeps.bench.command import exit_code, output, plain_parser, positive, set_threads
from sweeps.bench.timing import machine

WORDS, LABELS = 100, 5
LAYERS = [10_000, 100_000, 300_000, 1_000_000]


def run(
    labels: int, fan_in: int, batch: int, steps: int, every: int, growth: str
) -> dict[str, Any]:
    """Build a layer of `labels` inputs and outputs, and train it.

    Args:
        labels: Inputs, and outputs.
        fan_in: Weights of a label.
        batch: Samples of a step.
        steps: Steps.
        every: Steps between two updates of the topology.
        growth: `random` or `candidates`.

    Returns:
        `birth_s`, `step_s` (mean, updates included), `plain_s` (of steps without an update, the
        median), `update_steps`, and `peak_mib` of the process.
    """
    import torch

    from sparse_core import SparseConfig, sparsify
    from supervised.data.rows import Rows
    from supervised.xmc.losses import squared_hinge_
    from supervised.xmc.model import OneVsAll

    def rows(count: int, generator: torch.Generator, values: bool) -> Rows:
        keys = torch.randint(labels, (batch, count), generator=generator).sort(1)[0]
        fresh = torch.cat([torch.ones(batch, 1, dtype=torch.bool), keys.diff() > 0], 1)
        begins = torch.cat([torch.zeros(1, dtype=torch.int64), fresh.sum(1).cumsum(0)])
        columns = keys[fresh]
        scaled = torch.full((len(columns),), count**-0.5) if values else None
        return Rows(begins, columns, scaled, labels)

    start = time.perf_counter()
    net = OneVsAll(labels, labels, born=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    method = "set" if growth == "random" else "rigl"
    config = SparseConfig(
        method=method,
        growth=growth,
        structure="constant_fan_in",
        fan_in=fan_in,
        backend="condensed",
        update_every=every,
        horizon=10 * steps,
    )
    engine = sparsify(net, config, optimizer, roles={"output.*": "output"}, batch=batch)
    birth = time.perf_counter() - start
    seconds, updates = [], []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        samples, right = rows(WORDS, generator, True), rows(LABELS, generator, False)
        start, before = time.perf_counter(), engine.updates
        optimizer.zero_grad()
        net.backward(samples, right, squared_hinge_)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        updates.append(engine.updates > before)
    plain = sorted(s for s, update in zip(seconds, updates, strict=True) if not update)
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "labels": labels,
        "fan_in": fan_in,
        "batch": batch,
        "growth": growth,
        "threads": torch.get_num_threads(),
        "steps": steps,
        "updates": engine.updates,
        "birth_s": birth,
        "step_s": sum(seconds) / steps,
        "plain_s": plain[len(plain) // 2] if plain else None,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20,
    }


def plot(records: list[dict[str, Any]], path: Path) -> None:
    """Draw the peak of memory against the number of labels, as SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "large", "svg.fonttype": "path"}):
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.subplots()
        for growth in dict.fromkeys(r["growth"] for r in records):
            some = sorted((r["labels"], r["peak_mib"]) for r in records if r["growth"] == growth)
            axes.plot(*zip(*some, strict=True), marker="o", label=f"growth: {growth}")
        axes.set(xlabel="labels, and inputs", ylabel="peak of the process, MiB", ylim=(0, None))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(color="#E4E4E4")
        axes.legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def main(words: list[str] | None = None) -> int:
    """Measure layers one after the other, print a line for each, and write records."""
    options = plain_parser("dst bench large", __doc__)
    options.add_argument("--labels", type=positive, nargs="+", default=LAYERS)
    options.add_argument("--fan-in", type=positive, default=32, metavar="N")
    options.add_argument("--batch", type=positive, default=32, metavar="N")
    options.add_argument("--steps", type=positive, default=20, metavar="N")
    options.add_argument("--every", type=positive, default=10, metavar="N", help="update so often")
    options.add_argument("--growth", nargs="+", choices=("random", "candidates"),
                         default=["random", "candidates"])  # fmt: skip
    options.add_argument("--threads", type=positive, default=1, metavar="N")
    options.add_argument("--json", type=output, metavar="FILE", help="write records to it")
    options.add_argument("--plot", type=output, metavar="FILE", help="draw memory, as SVG")
    options.add_argument("--here", action="store_true", help="one layer, in this process, as JSON")
    chosen = options.parse_args(words)
    if any(labels < chosen.fan_in for labels in chosen.labels):
        options.error(f"--fan-in {chosen.fan_in}: must be at most --labels")
    shape = ["--fan-in", chosen.fan_in, "--batch", chosen.batch, "--steps", chosen.steps]
    shape += ["--every", chosen.every, "--threads", chosen.threads]
    if chosen.here:
        set_threads(chosen.threads)
        fixed = chosen.fan_in, chosen.batch, chosen.steps, chosen.every, chosen.growth[0]
        print(json.dumps(run(chosen.labels[0], *fixed)))
        return 0
    records = []
    print(f"{'labels':>10} {'growth':>10} {'birth s':>8} {'step s':>8} {'peak MiB':>9}")
    for labels in chosen.labels:
        for growth in chosen.growth:
            one = ["--here", "--labels", labels, "--growth", growth, *shape]
            command = [sys.executable, "-P", "-m", "sweeps.bench.large", *map(str, one)]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ)
            )
            found = json.loads(done.stdout.splitlines()[-1])
            records.append(found)
            print(
                f"{labels:>10,} {growth:>10} {found['birth_s']:>8.2f} {found['step_s']:>8.3f} "
                f"{found['peak_mib']:>9.0f}",
                flush=True,
            )
    if chosen.json:
        text = json.dumps({"machine": machine(), "records": records}, indent=1)
        Path(chosen.json).write_text(text + "\n")
    if chosen.plot:
        plot(records, Path(chosen.plot))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("dst bench large", main))
