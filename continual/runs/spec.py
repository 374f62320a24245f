"""`CLSpec`: everything that defines a continual-learning run, and nothing that does not.

No torch is imported here. Where the data lies is not part of a run's identity: it is the
environment variable DST_DATA.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from continual.runs.catalogue import BENCHMARKS, NETWORKS, OPTIMIZERS, SCENARIOS, splits
from continual.runs.datasets import DATASETS, FOLDER, find
from continual.strategies.recipes import MASKS, check_isolated, resolve
from continual.tasks.rules import SELECTORS, SHARING_POLICIES, check_isolation
from sparse_core.checks import InputError, at_least, one_of, within
from sparse_core.config import SparseConfig
from sparse_core.registry import METHODS


def _automatic() -> SparseConfig:
    return SparseConfig(update_every=10, backend="auto")


@dataclass(frozen=True)
class CLSpec:
    """A sequence of tasks learnt one after the other by a network with a head for each task.

    Attributes:
        benchmark: One of `BENCHMARKS`. `split-*`: each task has its own classes; `permuted-*` and
            `rotated-*`: all classes, and pixels in an order, or at an angle, of the task's own.
        tasks: Number of tasks.
        epochs: Passes over the data of each task.
        network: `mlp`, or `cnn`: blocks of convolutions before the hidden layers
            (`continual.runs.networks`).
        hidden: Neurons of the hidden linear layers.
        channels: Of `cnn`: channels of each block, which halves the images.
        lr: Learning rate.
        batch_size: Samples an optimizer step.
        samples: Training samples of each task, drawn by the seed; None: all there are.
        folder: Of `split-folder`: the folder of images, below DST_DATA or absolute, as
            `{train,test}/CLASS/*` or `CLASS/*`.
        image_size: Side of the images of `split-tinyimagenet` and `split-folder`, in pixels.
        selector: Measure, besides, the accuracy without task labels, each test image in the task
            that `max-confidence` or `entropy` infers; its own line in results.
        optimizer: `sgd` (momentum 0.9), `adam` or `adamw` (decoupled weight decay 0.01).
        isolation: `hard` freezes what a task has learnt, to the bit; `none` trains one network
            throughout. None: `hard`, but `none` with methods that are dense or start dense.
        share: What a task may do with the weights of earlier ones under hard isolation: `none`
            (masks are disjoint), `reuse` (read, never write), `forward` (read the neurons that they
            reserved) or `all` (read all of them, always).
        reserve: The fraction of each layer's neurons that a task reserves with `forward`.
        strategy: `masks` takes the settings as they are; the others, keys of
            `continual.strategies.recipes.RECIPES`, are published ones and decide some of them.
        sparse: The sparsity of each task's network, its backend `auto` unless given. Its seed and
            horizon play no part: they are the run's seed and the length of a task.
        seed: Seeds all streams: weights, masks, batches, permutations.
    """

    benchmark: str = "permuted-digits"
    tasks: int = 5
    epochs: int = 10
    network: str = "mlp"
    hidden: tuple[int, ...] = (200, 200)
    channels: tuple[int, ...] = (32, 64)
    lr: float = 0.005
    batch_size: int = 64
    samples: int | None = None
    folder: str | None = None
    image_size: int = 32
    selector: str | None = None
    optimizer: str = "adam"
    isolation: str | None = None
    share: str = "none"
    reserve: float = 0.1
    strategy: str = MASKS
    sparse: SparseConfig = field(default_factory=_automatic)
    seed: int = 0

    FIRST_DEFAULTS: ClassVar = {"sparse": SparseConfig(update_every=10)}

    def __post_init__(self) -> None:
        one_of("benchmark", self.benchmark, BENCHMARKS)
        one_of("network", self.network, NETWORKS)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        sparse, share = self.settings
        one_of("share", share, SHARING_POLICIES)
        within("reserve", self.reserve, 0, 1, open_right=True)
        if self.selector is not None:
            one_of("selector", self.selector, SELECTORS)
        for name in ("tasks", "epochs", "batch_size", "image_size"):
            at_least(name, getattr(self, name), 1)
        if self.samples is not None:
            at_least("samples", self.samples, 1)
        at_least("seed", self.seed, 0)
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not self.hidden:
            raise InputError("hidden=(): must name at least one layer's neurons", field="hidden")
        for neurons in self.hidden:
            at_least("hidden", neurons, 1)
        object.__setattr__(self, "channels", tuple(self.channels))
        if self.network == "cnn":
            check_channels(self.channels, self.side)
        number = isinstance(self.lr, (int, float)) and not isinstance(self.lr, bool)
        if not number or not 0 < self.lr < math.inf:
            raise InputError(f"lr={self.lr!r}: must be a positive number", field="lr")
        scenario, dataset = BENCHMARKS[self.benchmark]
        classes = DATASETS[dataset].classes
        if SCENARIOS[scenario].own_classes and classes is not None:
            one_of("tasks", self.tasks, splits(classes))
        if dataset == FOLDER and not self.folder:
            raise InputError(
                f"folder={self.folder!r}: must name a folder of images", field="folder"
            )
        if dataset != FOLDER and self.folder is not None:
            raise InputError(
                f"folder={self.folder!r}: is for benchmarks of a folder only", field="folder"
            )
        if self.isolation is not None:
            check_isolation(self.isolation, sparse.method)
            check_isolated(self.strategy, self.isolation)

    @property
    def isolation_in_force(self) -> str:
        """The configured isolation, else the one that suits strategy and method."""
        return self.isolation or self._usual_isolation

    @property
    def _usual_isolation(self) -> str:
        method = self.sparse.method
        shared = method == "dense" or METHODS[method].starts_dense
        return "none" if shared and self.strategy == MASKS else "hard"

    @property
    def settings(self) -> tuple[SparseConfig, str]:
        """The sparsity and the sharing policy with what the strategy decides."""
        return resolve(self.strategy, self.sparse, self.share)

    @property
    def sized(self) -> bool:
        """Whether images are brought to `image_size`."""
        return DATASETS[BENCHMARKS[self.benchmark][1]].side is None

    @property
    def side(self) -> int:
        """Height and width of the images in pixels."""
        return DATASETS[BENCHMARKS[self.benchmark][1]].side or self.image_size

    def in_force(self) -> dict[str, str | None]:
        """Return the isolation that None stands for; see `SparseConfig.in_force`."""
        dense = self.settings[0].method == "dense"
        return {"isolation": None if dense else self.isolation_in_force}

    def check_data(self) -> None:
        """Look for the images.

        Raises:
            InputError: If they are not where they should be.
        """
        find(BENCHMARKS[self.benchmark][1], folder=self.folder)

    def canonical(self) -> CLSpec:
        """Return the equal spec with all that plays no part in it at its default."""
        default = SparseConfig()
        sparse, share = self.settings
        share = share if self.isolation_in_force == "hard" else "none"
        sparse = dataclasses.replace(sparse.canonical(), seed=default.seed, horizon=default.horizon)
        return dataclasses.replace(
            self,
            sparse=sparse,
            isolation=None if self.isolation == self._usual_isolation else self.isolation,
            channels=self.channels if self.network == "cnn" else CLSpec.channels,
            share=share,
            reserve=self.reserve if share == "forward" else CLSpec.reserve,
            image_size=self.image_size if self.sized else CLSpec.image_size,
        )


def check_channels(channels: Sequence[int], side: int) -> None:
    """Check that images of `side` x `side` pixels can be halved once for each of the blocks.

    Raises:
        ValueError: Naming the value and what is allowed.
    """
    for width in channels:
        at_least("channels", width, 1)
    most = side.bit_length() - 1
    if not 1 <= len(channels) <= most:
        raise InputError(
            f"channels={tuple(channels)}: must name the channels of 1 to {most} blocks, each of "
            f"which halves the images of {side} x {side}",
            field="channels",
        )
