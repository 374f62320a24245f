"""One run of extreme classification: a spec in, a result out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparse_core.ahead import import_ahead
from sparse_core.checks import InputError
from sparse_core.engine import Engine
from sparse_core.metrics.tally import weights
from sparse_core.streams import stream
from supervised.data.parts import Parts, load_parts
from supervised.data.rows import Rows
from supervised.data.text import Samples
from supervised.epochs import Epochs, Progress
from supervised.xmc.build import loss_of, make_model, make_optimizer
from supervised.xmc.groups import grouped, label_groups
from supervised.xmc.metrics import ndcg, precision, propensities, propensity_precision
from supervised.xmc.model import OneVsAll
from supervised.xmc.predict import best_labels
from supervised.xmc.sampled import draw
from supervised.xmc.spec import XMCSpec

KS = (1, 3, 5)
"""Metrics are taken of so many predictions."""


def ahead() -> None:
    """Import what runs import as they go, for a process that forks them."""
    import_ahead()


def run(spec: XMCSpec, out: Path, progress: Progress) -> dict[str, Any]:
    """Train on some samples, stop by others and measure on the test samples.

    Args:
        spec: The run.
        out: A folder; nothing is written but what the result already says.
        progress: Called with the fraction done and P@1 on the samples held out.

    Returns:
        `score`, which is P@1; `precision_at_k`, `ndcg_at_k` and `propensity_precision_at_k` for
        each of `KS`; `curve`, P@1 on the samples held out after each epoch, and what else
        `supervised.epochs.Epochs.train` tells; `samples` of each part; `samples_without_labels` and
        `unused_features` of the files; `sparsity` and `layers` (see `sparse_core.metrics.tally`),
        all as JSON can hold them.

    Raises:
        InputError: If the data is missing or broken, or the spec does not suit it.
    """
    torch.manual_seed(spec.seed)
    parts = _load(spec)
    model, engine = make_model(spec, parts.train)
    optimizer = make_optimizer(spec, model.parameters())
    engine.attach(optimizer)
    epochs = Epochs(
        model,
        engine,
        steps=-(-len(parts.train) // spec.batch_size),
        epochs=spec.epochs,
        patience=spec.patience,
        shown="P@1",
        progress=progress,
    )
    trained = epochs.train(
        _Steps(spec, parts, model, optimizer), lambda: _score(spec, parts, model)
    )
    best, _ = best_labels(model, parts.test.features, max(KS), batch=spec.batch_size)
    return {
        "score": precision(best, parts.test.labels, 1),
        **_metrics(spec, parts, best),
        **trained,
        "samples": {name: len(getattr(parts, name)) for name in ("train", "valid", "test")},
        "samples_without_labels": parts.without_labels,
        "unused_features": parts.unused_features,
        **_weights(model, engine),
    }


def auxiliary_weight(spec: XMCSpec, done: float) -> float:
    """Return how much the auxiliary branch counts when a fraction of the training is done."""
    if done >= spec.auxiliary_until:
        return 0.0
    return spec.auxiliary_weight * (1 + math.cos(math.pi * done / spec.auxiliary_until)) / 2


def _load(spec: XMCSpec) -> Parts:
    parts = load_parts(
        spec.dataset,
        split=spec.split,
        published=spec.published,
        test_fraction=spec.test_fraction,
        valid_fraction=spec.valid_fraction,
        unlabelled=spec.unlabelled,
        seed=spec.seed,
    )
    labels = parts.train.labels.width
    if labels < max(KS):
        raise InputError(
            f"dataset={spec.dataset!r}: has {labels} labels; there must be {max(KS)}, of which "
            "metrics are taken",
            field="dataset",
        )
    if not spec.normalise:
        return parts
    train, valid, test = (
        Samples(part.features.normalised(), part.labels)
        for part in (parts.train, parts.valid, parts.test)
    )
    return replace(parts, train=train, valid=valid, test=test)


def _weights(model: OneVsAll, engine: Engine) -> dict[str, Any]:
    """Count the weights, those of the intermediate layer included."""
    found = weights({"network": engine})
    if model.lookup is not None:
        count = model.lookup.weight.numel()
        found["layers"].insert(0, {"name": "lookup.weight", "active": count, "total": count})
    return found


def _metrics(spec: XMCSpec, parts: Parts, best: Tensor) -> dict[str, float]:
    """Return all metrics on the test samples; propensities are of all that is not for testing."""
    right = parts.test.labels
    counts = parts.train.labels.counts() + parts.valid.labels.counts()
    propensity = propensities(counts, len(parts.train) + len(parts.valid), *spec.propensity)
    found = {f"precision_at_{k}": precision(best, right, k) for k in KS}
    found |= {f"ndcg_at_{k}": ndcg(best, right, k) for k in KS}
    for k in KS:
        found[f"propensity_precision_at_{k}"] = propensity_precision(best, right, k, propensity)
    return found


def _score(spec: XMCSpec, parts: Parts, model: OneVsAll) -> float:
    """Return P@1 on the samples held out."""
    best, _ = best_labels(model, parts.valid.features, 1, batch=spec.batch_size)
    return precision(best, parts.valid.labels, 1)


class _Steps:
    """Makes the optimizer steps of an epoch, which goes through each training sample once."""

    def __init__(self, spec: XMCSpec, parts: Parts, model: OneVsAll, optimizer: Optimizer) -> None:
        self._spec, self._train = spec, parts.train
        self._model, self._optimizer, self._loss = model, optimizer, loss_of(spec)
        self._groups: Rows | None = None
        if spec.auxiliary:
            group_of = label_groups(parts.train, spec.auxiliary, spec.seed)
            self._groups = grouped(parts.train.labels, group_of, spec.auxiliary)

    def __call__(self, epoch: int) -> Iterator[tuple[float, int]]:
        spec, train = self._spec, self._train
        order = torch.randperm(len(train), generator=stream(spec.seed, "batches", epoch))
        generator = stream(spec.seed, "labels", epoch)
        batches = torch.split(order, spec.batch_size)
        for index, rows in enumerate(batches):
            done = (epoch - 1 + index / len(batches)) / spec.epochs
            self._optimizer.zero_grad()
            labels, drawn = train.labels.take(rows), None
            if spec.sampled:
                drawn = draw(labels.columns, labels.width, spec.sampled, generator)
            loss = self._model.backward(
                train.features.take(rows),
                labels,
                self._loss,
                drawn=drawn,
                groups=None if self._groups is None else self._groups.take(rows),
                group_weight=auxiliary_weight(spec, done),
            )
            self._optimizer.step()
            yield float(loss), len(rows)
