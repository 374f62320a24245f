"""One run of recommendation: a spec in, a result out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_core.checks import InputError
from sparse_core.engine import Engine
from sparse_core.metrics.memory import memory
from sparse_core.metrics.tally import UpdateTally, weights
from sparse_core.streams import stream
from supervised.data.interactions import Interactions, load_interactions
from supervised.data.rows import Rows
from supervised.rec.build import loss_of, make_model, make_optimizer, recommender
from supervised.rec.metrics import ndcg, recall
from supervised.rec.popularity import entries_of
from supervised.rec.predict import best_items
from supervised.rec.spec import RecSpec
from supervised.rec.training import Epochs, step

Progress = Callable[[float, Mapping[str, float]], None]


def run(spec: RecSpec, out: Path, progress: Progress) -> dict[str, Any]:
    """Train on some pairs, choose the epoch by others and measure on the test pairs.

    Args:
        spec: The run.
        out: A folder; nothing is written but what the result already says.
        progress: Called with the fraction done and the recall on the pairs held out.

    Returns:
        `score`, which is Recall@k; `ndcg`; `curve`, recall on the pairs held out after each epoch;
        `losses` of each epoch; `best_epoch`; `users` and `items`; `pairs` of each part; `tested`,
        users with test pairs; `duplicates` and `untrained` of the files; `megabytes` of the weights
        with their indices, and `training_megabytes` with gradients and moments; `entries`, active
        entries against popularity (`supervised.rec.popularity`); `bytes`, `sparsity`, `layers`,
        `updates` and `still` (see `sparse_core.metrics.tally`), all as JSON can hold them.

    Raises:
        InputError: If the data is missing or broken, or the spec does not suit it.
    """
    torch.manual_seed(spec.seed)
    data = _load(spec)
    model, engine = make_model(spec, data.train)
    optimizer = make_optimizer(spec, model.parameters())
    engine.attach(optimizer)
    training = _Training(spec, data, model, engine, optimizer, progress)
    engine.set_horizon(spec.epochs * training.epochs.batches)
    moves = UpdateTally({"network": engine})
    training.train()
    moves.end()
    updates = moves.result()
    model.load_state_dict(training.best_state)
    users, right = _asked(data.test)
    best = best_items(recommender(model), users, data.known, spec.k)
    bytes_ = memory(engine)
    held = bytes_.condensed if engine.tensors else bytes_.dense
    return {
        "score": recall(best, right, spec.k),
        "ndcg": ndcg(best, right, spec.k),
        "curve": training.curve,
        "losses": training.losses,
        "best_epoch": training.best_epoch,
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
        **updates,
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


class _Training:
    """The epochs of a run, and the best of them.

    Attributes:
        epochs: What each of them goes through.
        curve: Epochs and recall on the pairs held out.
        losses: Mean loss of each epoch.
        best_epoch: The epoch of the highest recall, of those in which the model is sparse enough.
        best_state: The model's state then.
    """

    def __init__(
        self,
        spec: RecSpec,
        data: Interactions,
        model: nn.Module,
        engine: Engine,
        optimizer: Optimizer,
        progress: Progress,
    ) -> None:
        self.spec, self.data, self.model, self.engine = spec, data, model, engine
        self.optimizer, self.progress, self.loss = optimizer, progress, loss_of(spec)
        self.epochs = Epochs(data.train, spec.batch_size, spec.negatives, spec.seed)
        users, right = _asked(data.valid)
        if spec.valid_users is not None and len(users) > spec.valid_users:
            drawn = torch.randperm(len(users), generator=stream(spec.seed, "valid users"))
            some = drawn[: spec.valid_users].sort()[0]
            users, right = users[some], right.take(some)
        self.asked, self.right = users, right
        self.curve: list[list[float]] = []
        self.losses: list[float] = []
        self.best_epoch = 0
        self.best_state: dict[str, Any] = {}

    def train(self) -> None:
        """Go through the epochs until there are no more or none has helped for a while."""
        spec, model = self.spec, recommender(self.model)
        for epoch in range(1, spec.epochs + 1):
            self.losses.append(self._epoch(epoch))
            best = best_items(model, self.asked, self.data.train, spec.k)
            score = recall(best, self.right, spec.k)
            self.curve.append([epoch, score])
            if epoch < spec.epochs and not self._counts():
                continue
            if not self.best_epoch or score > self.curve[self.best_epoch - 1][1]:
                self.best_epoch = epoch
                self.best_state = copy.deepcopy(self.model.state_dict())
            if spec.patience is not None and epoch - self.best_epoch >= spec.patience:
                break

    def _epoch(self, epoch: int) -> float:
        """Train on each pair once; return the mean loss."""
        model, penalty = recommender(self.model), self.spec.penalty

        def make_step(batch: tuple[Tensor, Tensor, Tensor]) -> float:
            return step(model, self.optimizer, self.loss, batch, penalty)

        def told(done: int) -> None:
            self._tell(epoch - 1, done)

        return self.epochs.train(epoch, self.model, make_step, told)

    def _tell(self, epoch: int, done: int) -> None:
        numbers = {f"recall@{self.spec.k}": self.curve[-1][1]} if self.curve else {}
        self.progress((epoch + done / self.epochs.batches) / self.spec.epochs, numbers)

    def _counts(self) -> bool:
        """Whether the model is as sparse as asked: those that start dense are so in the end."""
        if not self.spec.sparse.density_moves:
            return True
        active = {layer.name: layer.active for layer in self.engine.layers()}
        return all(active[tensor.name] <= tensor.budget for tensor in self.engine.tensors)
