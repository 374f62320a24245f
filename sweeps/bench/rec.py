"""What recommenders with sparse tables cost, against dense ones.

dst bench rec                                                    pairs drawn at random
DST_DATA=DIR dst bench rec --json docs/results/speed_rec.json    Gowalla's own pairs

mf       a whole step of matrix factorisation, optimizer and negative items included: a table of
         Gowalla's size with 64 entries a row, batch 2048, BPR. `dense` is an embedding with
         sparse gradients and torch's SparseAdam, the best that torch has; then a dense one with
         torch's Adam, a masked and a condensed one with lazy Adam
graph    LightGCN's product with the graph; `dense` is torch's CSR
update   a step of `mf` without and with an update of the topology of the condensed table
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sweeps.bench.command import Calls, Case, Setting, exit_code, run
from sweeps.bench.timing import Record

if TYPE_CHECKING:
    from supervised.data.rows import Rows

USERS, ITEMS, PAIRS = 29_858, 40_981, 810_128
SIZE, BATCH = 64, 2048
SPARSITIES = (0.5, 0.8, 0.95)


def pairs() -> Rows:
    """Return Gowalla's pairs for training, or as many with popularities as uneven as theirs."""
    import torch

    from supervised.data.interactions import load_interactions, matrix

    if os.environ.get("DST_DATA"):
        return load_interactions("gowalla").train
    generator = torch.Generator().manual_seed(0)
    users, items = (
        torch.multinomial(
            (torch.arange(count) + 100.0).reciprocal(), PAIRS, True, generator=generator
        )
        for count in (USERS, ITEMS)
    )
    return matrix(users, items, USERS, ITEMS)


def mf_step(
    likes: Rows,
    backend: str | None,
    sparsity: float = 0.0,
    optimizer: str = "",
    *,
    method: str = "static",
    every: int = 100,
) -> Callable[[], object]:
    """Return a training step of matrix factorisation.

    Args:
        likes: Items for training, a row a user.
        backend: Of the sparse table; None: it is dense.
        sparsity: Of the table.
        optimizer: One of torch's; empty: lazy Adam.
        method: What moves the topology.
        every: Steps between two updates.
    """
    import torch
    from torch import nn

    from sparse_core import SparseConfig, optim, sparsify
    from supervised.rec.losses import bpr
    from supervised.rec.models import Factors
    from supervised.rec.training import Batches, step

    torch.manual_seed(0)
    model = Factors(likes, SIZE)
    if optimizer == "SparseAdam":
        weight = model.table.weight.detach()
        rows, size = weight.shape
        model.table = nn.Embedding(rows, size, sparse=True, _weight=weight)
    engine = None
    if backend is not None:
        moving = {} if method == "static" else {"update_every": every}
        config = SparseConfig(
            method=method,
            sparsity=sparsity,
            distribution="uniform",
            embeddings=True,
            backend=backend,
            **moving,  # type: ignore[arg-type]
        )
        engine = sparsify(model, config, batch=3 * BATCH)
    if optimizer:
        trainer = getattr(torch.optim, optimizer)(model.parameters(), lr=1e-3)
    else:
        trainer = optim.Adam(model.parameters(), lr=1e-3, lazy=True)
    if engine is not None:
        engine.attach(trainer)
    batches = Batches(likes, BATCH, 1, 0)

    def forever() -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        epoch = 0
        while True:
            epoch += 1
            yield from batches.of(epoch)

    endless = forever()
    return lambda: step(model, trainer, bpr, next(endless), 1e-4)


def mf(setting: Setting) -> Iterator[list[Record]]:
    """Whole steps of matrix factorisation."""
    likes = pairs()
    for sparsity in SPARSITIES[1:2] if setting.quick else SPARSITIES:
        calls: Calls = {
            "dense": mf_step(likes, None, optimizer="SparseAdam"),
            "dense, Adam": mf_step(likes, None, optimizer="Adam"),
            "masked": mf_step(likes, "masked", sparsity),
            "condensed": mf_step(likes, "condensed", sparsity),
        }
        yield _compared("mf", likes, sparsity, setting, setting.turns(calls))


def graph(setting: Setting) -> Iterator[list[Record]]:
    """Products of the graph with the vectors of all nodes."""
    import torch

    from supervised.rec.graph import Graph

    likes = pairs()
    ours = Graph(likes)
    nodes = len(likes) + likes.width
    pattern = ours.pattern
    begins = torch.zeros(nodes + 1, dtype=torch.int64)
    begins[1:] = torch.from_numpy(pattern.lengths).cumsum(0)
    columns = torch.from_numpy(pattern.columns).long()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that torch's CSR is new
        csr = torch.sparse_csr_tensor(
            begins, columns, torch.from_numpy(ours.values), (nodes, nodes)
        )
    vectors = torch.randn(nodes, SIZE, generator=torch.Generator().manual_seed(0))
    medians = setting.turns({"dense": lambda: csr @ vectors, "condensed": lambda: ours @ vectors})
    density = len(columns) / nodes**2
    yield _compared("graph", likes, 1 - density, setting, medians)


def update(setting: Setting) -> Iterator[list[Record]]:
    """Steps without an update of the topology (`condensed`) and with one."""
    likes = pairs()
    for method in ("rigl",) if setting.quick else ("set", "rigl", "srigl"):
        calls: Calls = {
            "condensed": mf_step(likes, "condensed", 0.8),
            f"{method}, update": mf_step(likes, "condensed", 0.8, method=method, every=1),
        }
        yield _compared("update", likes, 0.8, setting, setting.turns(calls))


def _compared(
    case: str, likes: Rows, sparsity: float, setting: Setting, medians: dict[str, float]
) -> list[Record]:
    rows, dense = len(likes) + likes.width, medians.get("dense")
    return [
        Record(
            case,
            SIZE,
            rows,
            BATCH,
            sparsity,
            setting.threads,
            1,
            name,
            median,
            None if dense is None else dense / median,
        )
        for name, median in medians.items()
    ]


CASES: dict[str, Case] = {"mf": mf, "graph": graph, "update": update}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    return run("dst bench rec", __doc__, CASES, arguments)


if __name__ == "__main__":
    sys.exit(exit_code("sweeps.bench.rec", main))
