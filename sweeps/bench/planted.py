"""A planted model: which growth rule finds the features that a label depends on?

    dst bench planted --labels 100_000 --seeds 3

Each of as many labels as features depends on 8 features of its own. Labels follow Zipf's law; a
sample has 4 labels, 4 of the 8 features of each, and 16 other features. A born layer of fan-in 16
is trained on fresh samples with squared hinge and Adam. Told are the share of planted edges that
are in the topology at the end, weighted by how often labels occur, and P@1 on samples that were not
trained on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sweeps.bench.command import exit_code, output, plain_parser, positive, set_threads
from sweeps.bench.timing import machine

OWN, SHOWN, LABELS, OTHERS = 8, 4, 4, 16
RULES = {
    "static": ("static", None),
    "random": ("set", "random"),
    "sampled": ("gse", "sampled_grabo"),
    "candidates": ("rigl", "candidates"),
}


def run(rule: str, labels: int, seed: int, steps: int, batch: int) -> dict[str, Any]:
    """Train one layer.

    Args:
        rule: One of `RULES`.
        labels: Labels, and features.
        seed: Seeds the model and the samples.
        steps: Optimizer steps, an update every 10.
        batch: Samples of a step.

    Returns:
        `found`, the share of planted edges, each weighted by its label's probability; `precision`,
        P@1; and what was asked for.
    """
    import torch

    from sparse_core import SparseConfig, sparsify
    from supervised.data.rows import Rows
    from supervised.xmc.losses import squared_hinge_
    from supervised.xmc.metrics import precision
    from supervised.xmc.model import OneVsAll
    from supervised.xmc.predict import best_labels

    draws = torch.Generator().manual_seed(seed)
    planted = torch.randint(labels, (labels, OWN), generator=draws)
    chance = 1 / torch.arange(1, labels + 1, dtype=torch.float64)
    below = (chance / chance.sum()).cumsum(0)

    def rows(keys: torch.Tensor, values: bool) -> Rows:
        keys = keys.sort(1)[0]
        first = torch.ones(len(keys), 1, dtype=torch.bool)
        fresh = torch.cat([first, keys.diff() > 0], 1)
        begins = torch.cat([torch.zeros(1, dtype=torch.int64), fresh.sum(1).cumsum(0)])
        made = Rows(begins, keys[fresh], torch.ones(int(fresh.sum())) if values else None, labels)
        return made.normalised() if values else made

    def samples(count: int) -> tuple[Rows, Rows]:
        drawn = torch.rand(count, LABELS, generator=draws, dtype=torch.float64)
        right = torch.searchsorted(below, drawn).clamp(max=labels - 1)
        shown = torch.rand(count, LABELS, OWN, generator=draws).argsort(2)[:, :, :SHOWN]
        words = planted[right].gather(2, shown).reshape(count, -1)
        noise = torch.randint(labels, (count, OTHERS), generator=draws)
        return rows(torch.cat([words, noise], 1), True), rows(right, False)

    method, growth = RULES[rule]
    net = OneVsAll(labels, labels, born=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    config = SparseConfig(
        method=method,
        growth=growth,
        structure="constant_fan_in",
        fan_in=16,
        backend="condensed",
        update_every=10,
        horizon=steps,
        seed=seed,
    )
    sparsify(net, config, optimizer, roles={"output.*": "output"}, batch=batch)
    for _ in range(steps):
        x, y = samples(batch)
        optimizer.zero_grad()
        net.backward(x, y, squared_hinge_)
        optimizer.step()
    x, y = samples(2000)
    found = []
    for begin, block in net.blocks():
        columns = block.get_buffer("columns").reshape(-1, 16).long()
        own = planted[begin : begin + len(columns)]
        found.append((own.unsqueeze(2) == columns.unsqueeze(1)).any(2).double().mean(1))
    share = float((torch.cat(found) * chance).sum() / chance.sum())
    return {
        "rule": rule,
        "labels": labels,
        "seed": seed,
        "steps": steps,
        "batch": batch,
        "found": share,
        "precision": precision(best_labels(net, x, 1)[0], y, 1),
    }


def interval(values: list[float]) -> str:
    """Return mean and 95 % interval (Student's t) in percent."""
    from sweeps.results.estimates import t_interval

    found = t_interval(values)
    if found is None:
        return f"{100 * values[0]:.1f}"
    return f"{100 * found.estimate:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def main(words: list[str] | None = None) -> int:
    """Train all rules with all seeds, print a table, and write records."""
    options = plain_parser("dst bench planted", __doc__)
    options.add_argument("--labels", type=positive, default=100_000, metavar="N")
    options.add_argument("--seeds", type=positive, default=3, metavar="N")
    options.add_argument("--steps", type=positive, default=200, metavar="N")
    options.add_argument("--batch", type=positive, default=128, metavar="N")
    options.add_argument("--rules", nargs="+", choices=tuple(RULES), default=list(RULES))
    options.add_argument("--threads", type=positive, default=1, metavar="N")
    options.add_argument("--json", type=output, metavar="FILE", help="write records to it")
    chosen = options.parse_args(words)
    set_threads(chosen.threads)
    records = []
    print(f"{'rule':>10} {'edges found, %':>24} {'P@1, %':>24}")
    for rule in chosen.rules:
        shape = chosen.steps, chosen.batch
        own = [run(rule, chosen.labels, seed, *shape) for seed in range(chosen.seeds)]
        records += own
        cells = [interval([r[key] for r in own]) for key in ("found", "precision")]
        print(f"{rule:>10} {cells[0]:>24} {cells[1]:>24}", flush=True)
    if chosen.json:
        text = json.dumps({"machine": machine(), "records": records}, indent=1)
        Path(chosen.json).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("dst bench planted", main))
