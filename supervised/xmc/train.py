"""One run of extreme classification: a spec in, a result out."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_core.ahead import import_ahead
from sparse_core.checks import InputError
from sparse_core.engine import Engine
from sparse_core.metrics.tally import UpdateTally, weights
from sparse_core.streams import stream
from supervised.data.parts import Parts, load_parts
from supervised.data.rows import Rows
from supervised.data.text import Samples
from supervised.xmc.build import loss_of, make_model, make_optimizer
from supervised.xmc.groups import grouped, label_groups
from supervised.xmc.metrics import ndcg, precision, propensities, propensity_precision
from supervised.xmc.model import OneVsAll
from supervised.xmc.predict import best_labels
from supervised.xmc.spec import XMCSpec

Progress = Callable[[float, Mapping[str, float]], None]

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
        each of `KS`; `curve`, P@1 on the samples held out after each epoch; `losses` of each epoch;
        `best_epoch`; `samples` of each part; `samples_without_labels` and `unused_features` of the
        files; `sparsity`, `layers`, `updates` and `still` (see `sparse_core.metrics.tally`), all as
        JSON can hold them.

    Raises:
        InputError: If the data is missing or broken, or the spec does not suit it.
    """
    torch.manual_seed(spec.seed)
    parts = _load(spec)
    model, engine = make_model(spec, parts.train)
    optimizer = make_optimizer(spec, model.parameters())
    engine.attach(optimizer)
    training = _Training(spec, parts, model, engine, optimizer, progress)
    engine.set_horizon(spec.epochs * training.batches)
    moves = UpdateTally({"network": engine})
    training.train()
    moves.end()
    updates = moves.result()
    model.load_state_dict(training.best_state)
    best, _ = best_labels(model, parts.test.features, max(KS), batch=spec.batch_size)
    return {
        "score": precision(best, parts.test.labels, 1),
        **_metrics(spec, parts, best),
        "curve": training.curve,
        "losses": training.losses,
        "best_epoch": training.best_epoch,
        "samples": {name: len(getattr(parts, name)) for name in ("train", "valid", "test")},
        "samples_without_labels": parts.without_labels,
        "unused_features": parts.unused_features,
        **_weights(model, engine),
        **updates,
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


class _Training:
    """The epochs of a run, and the best of them.

    Attributes:
        curve: Epochs and P@1 on the samples held out.
        losses: Mean loss of each epoch.
        best_epoch: The epoch of the highest P@1, of those in which the model is sparse enough.
        batches: Optimizer steps of an epoch.
        best_state: The model's state then.
    """

    def __init__(
        self,
        spec: XMCSpec,
        parts: Parts,
        model: OneVsAll,
        engine: Engine,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
    ) -> None:
        self.spec, self.parts, self.model, self.engine = spec, parts, model, engine
        self.optimizer, self.progress = optimizer, progress
        self.loss = loss_of(spec)
        self.batches = -(-len(parts.train) // spec.batch_size)
        self.groups: Rows | None = None
        if spec.auxiliary:
            group_of = label_groups(parts.train, spec.auxiliary, spec.seed)
            self.groups = grouped(parts.train.labels, group_of, spec.auxiliary)
        self.curve: list[list[float]] = []
        self.losses: list[float] = []
        self.best_epoch = 0
        self.best_state: dict[str, Any] = {}

    def train(self) -> None:
        """Go through the epochs until there are no more or none has helped for a while."""
        spec, valid = self.spec, self.parts.valid
        for epoch in range(1, spec.epochs + 1):
            self.losses.append(self._epoch(epoch))
            best, _ = best_labels(self.model, valid.features, 1, batch=spec.batch_size)
            score = precision(best, valid.labels, 1)
            self.curve.append([epoch, score])
            self.progress(epoch / spec.epochs, self._numbers())
            if epoch < spec.epochs and not self._counts():
                continue
            if not self.best_epoch or score > self.curve[self.best_epoch - 1][1]:
                self.best_epoch = epoch
                self.best_state = copy.deepcopy(self.model.state_dict())
            if spec.patience is not None and epoch - self.best_epoch >= spec.patience:
                break

    def _counts(self) -> bool:
        """Whether the model is as sparse as asked: those that start dense are so in the end."""
        if not self.spec.sparse.density_moves:
            return True
        active = {layer.name: layer.active for layer in self.engine.layers()}
        return all(active[tensor.name] <= tensor.budget for tensor in self.engine.tensors)

    def _epoch(self, epoch: int) -> float:
        """Train on each sample once; return the mean loss."""
        self.model.train()
        train, spec = self.parts.train, self.spec
        order = torch.randperm(len(train), generator=stream(spec.seed, "batches", epoch))
        total = 0.0
        for index, rows in enumerate(torch.split(order, spec.batch_size)):
            done = (epoch - 1 + index / self.batches) / spec.epochs
            self.optimizer.zero_grad()
            loss = float(
                self.model.backward(
                    train.features.take(rows),
                    train.labels.take(rows),
                    self.loss,
                    groups=None if self.groups is None else self.groups.take(rows),
                    group_weight=auxiliary_weight(spec, done),
                )
            )
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} in epoch {epoch}; try a smaller lr")
            self.optimizer.step()
            total += loss * len(rows)
            self.progress(done, self._numbers())
        return total / len(train)

    def _numbers(self) -> dict[str, float]:
        return {"P@1": self.curve[-1][1]} if self.curve else {}
