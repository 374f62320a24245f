"""`XMCSpec`: everything that defines a run of extreme classification, and nothing that does not.

No torch is imported here. Where the data lies is not part of a run's identity: it is the
environment variable DST_DATA.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from sparse_core.checks import InputError, at_least, one_of, positive, within
from sparse_core.config import SparseConfig
from sparse_core.imports import check_module, is_reference
from sparse_core.naming import check_name
from supervised.data.sources import UNLABELLED, check

LOSSES = {
    "squared_hinge": "supervised.xmc.losses:squared_hinge_",
    "bce": "supervised.xmc.losses:bce_",
    "softmax": "supervised.xmc.losses:softmax_",
}
OPTIMIZERS = {"adam": "torch.optim:Adam", "sgd": "torch.optim:SGD"}


def _automatic() -> SparseConfig:
    return SparseConfig(distribution="uniform", update_every=30, backend="auto")


@dataclass(frozen=True)
class XMCSpec:
    """A binary classifier for each of many labels, of which a sample may have several.

    Attributes:
        dataset: Name of the data set, as it stands in the names of its files
            (`supervised.data.sources`): `bibtex`, `delicious`, or any other of that format. Or
            `package.module:NAME` of a function `() -> Samples`, or `-> (Samples, Samples)` for
            training and testing (`supervised.Samples`).
        split: Of a set in one file: seeds which samples are for testing.
        published: Of a set in one file: whether it is split as its files `NAME_trSplit.txt` and
            `NAME_tstSplit.txt` say; `split` is which of those splits then.
        test_fraction: Of a set in one file: how many of them.
        valid_fraction: The fraction of the training samples that is held out, drawn by the run's
            seed; they say when to stop.
        unlabelled: What becomes of samples without labels: `refuse` the file, `drop` them, or
            `keep` them, as samples to which no label belongs.
        normalise: Whether the features of each sample are scaled to length one.
        intermediate: Neurons of a dense layer between features and labels; None: there is none.
        auxiliary: Groups of labels that a second, dense output layer on the intermediate one
            learns besides; 0: there is none.
        auxiliary_weight: How much its loss counts at first. It falls to 0 by a cosine.
        auxiliary_until: The fraction of the training after which it does not count.
        loss: `squared_hinge` or `bce`, of each label against all samples, `softmax`, of all labels
            against each other (one block of labels, or sampled ones), or `package.module:NAME` of a
            function such as those of `supervised.xmc.losses`.
        sampled: Labels a step looks at besides those of its samples, drawn anew and corrected for
            (`supervised.xmc.sampled`); 0: it looks at all. For methods whose growth sees no
            gradient.
        block: Labels whose scores are in memory together; each block of the output layer has a
            topology of its own.
        epochs: Passes over the training samples, at most.
        patience: Training stops after so many epochs that are no better on the samples held out;
            None: never. The best epoch's model is what counts.
        batch_size: Samples an optimizer step.
        optimizer: `adam` or `sgd` (momentum 0.9), or `package.module:NAME` of a function or class
            `(parameters, lr=...)` such as `torch.optim:RMSprop`.
        lr: Learning rate.
        propensity: Parameters A and B of propensities (`supervised.xmc.metrics`).
        sparse: The sparsity of the output layer, uniform over its blocks and with backend `auto`
            unless given. Its seed and horizon play no part: they are the run's seed and length.
        seed: Seeds all streams: weights, masks, batches, samples held out.
    """

    dataset: str = "bibtex"
    split: int = 0
    published: bool = False
    test_fraction: float = 0.25
    valid_fraction: float = 0.1
    unlabelled: str = "refuse"
    normalise: bool = True
    intermediate: int | None = None
    auxiliary: int = 0
    auxiliary_weight: float = 0.4
    auxiliary_until: float = 0.5
    loss: str = "squared_hinge"
    sampled: int = 0
    block: int = 65_536
    epochs: int = 20
    patience: int | None = 5
    batch_size: int = 128
    optimizer: str = "adam"
    lr: float = 0.01
    propensity: tuple[float, float] = (0.55, 1.5)
    sparse: SparseConfig = field(default_factory=_automatic)
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.dataset, str) or not self.dataset:
            raise InputError(f"dataset={self.dataset!r}: must name a data set", field="dataset")
        one_of("unlabelled", self.unlabelled, UNLABELLED)
        check_name("loss", self.loss, LOSSES)
        check_name("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("test_fraction", "valid_fraction"):
            within(name, getattr(self, name), 0, 1, open_right=True)
            positive(name, getattr(self, name))
        for name in ("auxiliary_weight", "auxiliary_until"):
            within(name, getattr(self, name), 0, 1)
        for name in ("block", "epochs", "batch_size"):
            at_least(name, getattr(self, name), 1)
        for name in ("split", "auxiliary", "sampled", "seed"):
            at_least(name, getattr(self, name), 0)
        for name in ("intermediate", "patience"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)
        positive("lr", self.lr)
        object.__setattr__(self, "propensity", tuple(self.propensity))
        if len(self.propensity) != 2:
            raise InputError(
                f"propensity={self.propensity}: must be two numbers, A and B", field="propensity"
            )
        for number in self.propensity:
            positive("propensity", number)
        if self.auxiliary and self.intermediate is None:
            raise InputError(
                f"auxiliary={self.auxiliary}: is for runs with an intermediate layer",
                field="auxiliary",
            )
        if self.sparse.facts.in_rounds:
            raise InputError(
                f"sparse.method={self.sparse.method!r}: trains in rounds, as runs of rl and cl can",
                field="sparse.method",
            )
        self._check_labels_stay()
        if self.sampled:
            self._check_sampled()

    def _check_sampled(self) -> None:
        """Scores of single labels are had of rows with columns of their own; no growth sees all."""
        sparse = self.sparse
        if not sparse.facts.sparse:
            return
        if sparse.growth_rule not in (None, "random"):
            raise InputError(
                f"sampled={self.sampled}: growth by {sparse.growth_rule!r} looks at the gradient "
                "of all labels; must be 0, or sparse.method static or set",
                field="sampled",
            )
        if sparse.group > 1 and sparse.backend != "masked":
            raise InputError(
                f"sampled={self.sampled}: needs sparse.group=1, or sparse.backend='masked'",
                field="sampled",
            )

    def _check_labels_stay(self) -> None:
        """A neuron of the output layer is a label: none may be ablated or removed."""
        sparse = self.sparse
        removes = sparse.facts.sparse and sparse.structure_in_force == "neurons"
        if (removes or sparse.ablates) and "output" not in sparse.never_ablate:
            raise InputError(
                f"sparse.never_ablate={sparse.never_ablate}: must hold 'output', or labels would "
                "be deleted",
                field="sparse.never_ablate",
            )

    def check_data(self) -> None:
        """Look for the files, and for the modules of what is the user's own; none is imported.

        Raises:
            InputError: If they are not where they should be.
        """
        for name in ("dataset", "loss", "optimizer"):
            value = getattr(self, name)
            if is_reference(value):
                check_module(name, value, value.partition(":")[0], f"what {name} names")
        if not is_reference(self.dataset):
            check(self.dataset, self.published)

    def canonical(self) -> XMCSpec:
        """Return the equal spec with all that plays no part in it at its default."""
        default = SparseConfig()
        sparse = dataclasses.replace(
            self.sparse.canonical(), seed=default.seed, horizon=default.horizon, embeddings=False
        )
        unused: tuple[str, ...]
        counts = self.auxiliary and self.auxiliary_weight and self.auxiliary_until
        unused = () if counts else ("auxiliary", "auxiliary_weight", "auxiliary_until")
        unused += ("test_fraction",) if self.published else ()
        return dataclasses.replace(
            self, sparse=sparse, **{name: getattr(XMCSpec, name) for name in unused}
        )
