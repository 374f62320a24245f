"""One run of recommendation: a spec in, a result out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_core.checks import InputError
from sparse_core.metrics.memory import memory
from sparse_core.metrics.tally import weights
from sparse_core.streams import stream
from supervised.data.interactions import Interactions, load_interactions
from supervised.data.rows import Rows
from supervised.epochs import Epochs, Progress, Steps
from supervised.rec.build import loss_of, make_model, make_optimizer, recommender
from supervised.rec.metrics import ndcg, recall
from supervised.rec.models import Recommender
from supervised.rec.popularity import entries_of
from supervised.rec.predict import best_items
from supervised.rec.spec import RecSpec
from supervised.rec.training import Batches, step


def run(spec: RecSpec, out: Path, progress: Progress) -> dict[str, Any]:
    """Train on some pairs, choose the epoch by others and measure on the test pairs.

    Args:
        spec: The run.
        out: A folder; nothing is written but what the result already says.
        progress: Called with the fraction done and the recall on the pairs held out.

    Returns:
        `score`, which is Recall@k; `ndcg`; `curve`, recall on the pairs held out after each epoch,
        and what else `supervised.epochs.Epochs.train` tells; `users` and `items`; `pairs` of each
        part; `tested`, users with test pairs; `duplicates` and `untrained` of the files;
        `megabytes` of the weights with their indices, and `training_megabytes` with gradients and
        moments; `entries`, active entries against popularity (`supervised.rec.popularity`);
        `sparsity` and `layers` (see `sparse_core.metrics.tally`), all as JSON can hold them.

    Raises:
        InputError: If the data is missing or broken, or the spec does not suit it.
    """
    torch.manual_seed(spec.seed)
    data = _load(spec)
    model, engine = make_model(spec, data.train)
    optimizer = make_optimizer(spec, model.parameters())
    engine.attach(optimizer)
    batches = Batches(data.train, spec.batch_size, spec.negatives, spec.seed)
    epochs = Epochs(
        model,
        engine,
        steps=batches.count,
        epochs=spec.epochs,
        patience=spec.patience,
        shown=f"recall@{spec.k}",
        progress=progress,
    )
    steps, score = _steps(spec, batches, recommender(model), optimizer), _score(spec, data, model)
    trained = epochs.train(steps, score)
    users, right = _asked(data.test)
    best = best_items(recommender(model), users, data.known, spec.k)
    bytes_ = memory(engine)
    held = bytes_.condensed if engine.tensors else bytes_.dense
    return {
        "score": recall(best, right, spec.k),
        "ndcg": ndcg(best, right, spec.k),
        **trained,
        "users": data.users,
        "items": data.items,
        "pairs": {name: len(getattr(data, name).columns) for name in ("train", "valid", "test")},
        "tested": len(users),
        "duplicates": data.duplicates,
        "untrained": data.untrained,
        "megabytes": held.weights / 1e6,
        "training_megabytes": held.total / 1e6,
        "entries": entries_of(engine, data.train),
        **weights({"network": engine}),
    }


def _load(spec: RecSpec) -> Interactions:
    data = load_interactions(
        spec.dataset,
        form=spec.form,
        untrained=spec.untrained,
        valid_fraction=spec.valid_fraction,
        seed=spec.seed,
    )
    if spec.k > data.items:
        raise InputError(f"k={spec.k}: must be at most {data.items}, the items", field="k")
    return data


def _asked(right: Rows) -> tuple[Tensor, Rows]:
    """Return the users that have something to be found, and that."""
    users = right.lengths.nonzero()[:, 0]
    return users, right.take(users)


def _steps(spec: RecSpec, batches: Batches, model: Recommender, optimizer: Optimizer) -> Steps:
    """Return what makes the optimizer steps of an epoch."""
    loss = loss_of(spec)

    def steps(epoch: int) -> Iterator[tuple[float, int]]:
        for batch in batches.of(epoch):
            yield step(model, optimizer, loss, batch, spec.penalty), len(batch[0])

    return steps


def _score(spec: RecSpec, data: Interactions, model: nn.Module) -> Callable[[], float]:
    """Return what measures recall on the pairs held out, of as many users as asked."""
    users, right = _asked(data.valid)
    if spec.valid_users is not None and len(users) > spec.valid_users:
        drawn = torch.randperm(len(users), generator=stream(spec.seed, "valid users"))
        some = drawn[: spec.valid_users].sort()[0]
        users, right = users[some], right.take(some)

    def score() -> float:
        best = best_items(recommender(model), users, data.train, spec.k)
        return recall(best, right, spec.k)

    return score
