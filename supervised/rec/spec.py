"""`RecSpec`: everything that defines a run of recommendation, and nothing that does not.

No torch is imported here. Where the data lies is not part of a run's identity: it is the
environment variable DST_DATA.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sparse_core.checks import InputError, at_least, one_of, positive, within
from sparse_core.config import SparseConfig
from sparse_core.imports import check_module, is_reference
from sparse_core.naming import check_name
from supervised.data.pair_sources import FORMS, UNTRAINED, find_pairs
from supervised.rec import presets

MODELS = ("mf", "lightgcn", "neumf")
LOSSES = {"bpr": "supervised.rec.losses:bpr", "bce": "supervised.rec.losses:bce"}
OPTIMIZERS = {"adam": "sparse_core.optim:Adam", "sgd": "sparse_core.optim:SGD"}
STARTS = ("random", "nmf")
OWN = {"layers": "lightgcn", "hidden": "neumf"}
"""Fields that one model alone has."""


def _automatic() -> SparseConfig:
    return SparseConfig(distribution="uniform", embeddings=True, backend="auto")


@dataclass(frozen=True)
class RecSpec:
    """A recommender: vectors of users and items that score what a user may like.

    Attributes:
        dataset: Folder of the data set (`supervised.data.pair_sources`): `gowalla`, `citeulike`, or
            any other of that form. Or `package.module:NAME` of a function that returns two or three
            `supervised.Pairs`: for training, for testing, held out.
        form: How lines are written: `lists`, a user and all of its items, or `pairs`; None: that of
            a known data set, else `lists`.
        untrained: What becomes of users with pairs for testing and none for training: `refuse`
            the data, or `skip` them.
        valid_fraction: How much of the pairs for training is held out, drawn by the run's seed;
            each user keeps one. Without effect where the set has a `valid.txt`.
        valid_users: Users at most, drawn by the seed, whose pairs held out are looked at after an
            epoch; None: all.
        model: `mf`, `lightgcn` or `neumf`, or `package.module:NAME` of a function or class
            `(likes, size) -> nn.Module` such as `supervised.rec.models:Factors`.
        size: Entries of a vector.
        layers: Of LightGCN.
        hidden: Neurons of the layers of NeuMF's network.
        loss: `bpr` or `bce`, or `package.module:NAME` of a function such as those of
            `supervised.rec.losses`.
        negatives: Negative items for each liked one, drawn anew.
        penalty: Times half the squared length of the vectors of a batch, added to the loss.
        epochs: Passes over the training pairs, at most.
        patience: Training stops after so many epochs that are no better on the pairs held out;
            None: never. The best epoch's model is what counts.
        batch_size: Liked pairs an optimizer step.
        optimizer: `adam` or `sgd`, or `package.module:NAME` of a function or class
            `(parameters, lr=...)`, for which `lazy` plays no part.
        lr: Learning rate.
        lazy: Whether rows that no pair of a batch names sit the step out (`sparse_core.optim`).
        k: Recommendations that recall and nDCG are taken of.
        start: Where the first mask comes from: `random`, or `nmf`, a factorisation of the training
            pairs (`supervised.rec.nmf`).
        preset: A recipe whose values stand beneath those given (`supervised.rec.presets`), in
            grids and on the command line.
        sparse: The sparsity of the table, and of NeuMF's layers; embeddings are always sparse,
            uniform and with backend `auto` unless given. Its seed and horizon play no part: they
            are the run's seed and length.
        seed: Seeds all streams: vectors, masks, batches, negative items, pairs held out.
    """

    dataset: str = "gowalla"
    form: str | None = None
    untrained: str = "refuse"
    valid_fraction: float = 0.1
    valid_users: int | None = 2000
    model: str = "mf"
    size: int = 64
    layers: int = 3
    hidden: tuple[int, ...] = (32, 16, 8)
    loss: str = "bpr"
    negatives: int = 1
    penalty: float = 1e-4
    epochs: int = 20
    patience: int | None = 5
    batch_size: int = 2048
    optimizer: str = "adam"
    lr: float = 1e-3
    lazy: bool = True
    k: int = 20
    start: str = "random"
    preset: str | None = None
    sparse: SparseConfig = field(default_factory=_automatic)
    seed: int = 0

    EXPAND_READS: ClassVar = ()

    @classmethod
    def expand(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Put a preset's values beneath those that are given, see `supervised.rec.presets`."""
        return presets.expand(values)

    def __post_init__(self) -> None:
        if self.preset is not None:
            raise InputError(
                f"preset={self.preset!r}: is for grids and the command line; in Python "
                "RecSpec.expand puts its values beneath those given",
                field="preset",
            )
        if not isinstance(self.dataset, str) or not self.dataset:
            raise InputError(f"dataset={self.dataset!r}: must name a data set", field="dataset")
        if self.form is not None:
            one_of("form", self.form, FORMS)
        one_of("untrained", self.untrained, UNTRAINED)
        one_of("start", self.start, STARTS)
        check_name("model", self.model, dict.fromkeys(MODELS))
        check_name("loss", self.loss, LOSSES)
        check_name("optimizer", self.optimizer, OPTIMIZERS)
        within("valid_fraction", self.valid_fraction, 0, 1, open_right=True)
        positive("valid_fraction", self.valid_fraction)
        within("penalty", self.penalty, 0, float("inf"), open_right=True)
        positive("lr", self.lr)
        for name in ("size", "layers", "negatives", "epochs", "batch_size", "k"):
            at_least(name, getattr(self, name), 1)
        at_least("seed", self.seed, 0)
        for name in ("valid_users", "patience"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for neurons in self.hidden:
            at_least("hidden", neurons, 1)
        if self.sparse.facts.in_rounds:
            raise InputError(
                f"sparse.method={self.sparse.method!r}: trains in rounds, as runs of rl and cl can",
                field="sparse.method",
            )
        if self.start == "nmf" and self.model not in ("mf", "lightgcn"):
            raise InputError(
                f"start='nmf': is for models mf and lightgcn, not for {self.model!r}",
                field="start",
            )

    def check_data(self) -> None:
        """Look for the files, and for the modules of what is the user's own; none is imported.

        Raises:
            InputError: If they are not where they should be.
        """
        for name in ("dataset", "model", "loss", "optimizer"):
            value = getattr(self, name)
            if is_reference(value):
                check_module(name, value, value.partition(":")[0], f"what {name} names")
        if not is_reference(self.dataset):
            find_pairs(self.dataset)

    def canonical(self) -> RecSpec:
        """Return the equal spec with all that plays no part in it at its default."""
        default = SparseConfig()
        sparse = dataclasses.replace(
            self.sparse.canonical(), seed=default.seed, horizon=default.horizon, embeddings=False
        )
        unused = [name for name, model in OWN.items() if model != self.model]
        if self.optimizer not in OPTIMIZERS:
            unused.append("lazy")
        if not self.sparse.facts.sparse:
            unused.append("start")
        return dataclasses.replace(
            self, sparse=sparse, **{name: getattr(RecSpec, name) for name in unused}
        )
