"""`CLSpec`: everything that defines a continual-learning run, and nothing that does not.

No torch is imported here. Where the data lies is not part of a run's identity: it is the
environment variable DST_DATA.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from continual.runs import calls
from continual.runs.baselines import BASELINES, Baseline
from continual.runs.catalogue import (
    NETWORKS,
    OPTIMIZERS,
    SCENARIOS,
    check_benchmark,
    parts_of,
)
from continual.runs.datasets import DATASETS, find, is_npz, locate
from continual.strategies.recipes import MASKS, check_isolated, resolve
from continual.tasks.rules import SELECTORS, SHARING_POLICIES, check_isolation
from sparse_core.baselines import FINETUNE
from sparse_core.checks import InputError, at_least, one_of, positive, within
from sparse_core.config import SparseConfig
from sparse_core.imports import is_reference
from sparse_core.naming import check_name
from sparse_core.sized import sized


def _automatic() -> SparseConfig:
    return SparseConfig(update_every=10, backend="auto")


@dataclass(frozen=True)
class CLSpec:
    """A sequence of tasks learnt one after the other by a network with a head for each task.

    Attributes:
        benchmark: `split-`, `permuted-` or `rotated-` and a data set, such as `split-mnist`
            (`dst list benchmarks` names all): each task has classes of its own, or pixels in an
            order or at an angle of its own. `split`, `permuted` or `rotated` with a `dataset` of
            your own. Or `package.module:NAME`, a function `(tasks, seed)` that returns the tasks
            (`continual.runs.own_data`).
        dataset: With benchmark `split`, `permuted` or `rotated`: `digits`, `mnist`, `cifar10`,
            `cifar100`, `tinyimagenet`, `core50`, a file `.npz` or a folder of images (from here,
            below DST_DATA or absolute), or `package.module:NAME`, a function
            `() -> (train_x, train_y, test_x, test_y)`.
        tasks: Number of tasks.
        epochs: Passes over the data of each task.
        network: `mlp`; `cnn`, blocks of convolutions before the hidden layers; `resnet18`
            (`continual.runs.networks`); or `package.module:NAME`, a function or class
            `(features, classes, **network_kwargs) -> nn.Module` from `(batch, features)` to
            `(batch, classes)`.
        network_kwargs: Keyword arguments of a network of your own.
        hidden: Of `mlp` and `cnn`: neurons of the hidden linear layers.
        channels: Of `cnn`: channels of each block, which halves the images. Of `resnet18`:
            channels of each stage, 64, 128, 256 and 512 unless given.
        lr: Learning rate at the beginning of each task.
        lr_steps: Fractions of a task's epochs at which it falls: 0.5 and 0.75 in much of what is
            published. None given: it stays.
        lr_factor: What it is multiplied by then.
        batch_size: Samples an optimizer step.
        samples: Training samples of each task, drawn by the seed; None: all there are.
        folder: Of `*-folder`: the folder of images, below DST_DATA or absolute, as
            `{train,test}/CLASS/*` or `CLASS/*`.
        image_size: Side of the images of TinyImageNet and of folders, in pixels.
        selector: Measure, besides, the accuracy without task labels, each test image in the task
            that `max-confidence` or `entropy` infers; its own line in results.
        optimizer: `sgd` (momentum 0.9), `adam` or `adamw` (decoupled weight decay 0.01), or
            `package.module:NAME`, a function or class `(parameters, lr=..., **optimizer_kwargs)`
            such as `torch.optim:RMSprop`.
        optimizer_kwargs: Further keyword arguments of the optimizer.
        isolation: `hard` freezes what a task has learnt, to the bit; `none` trains one network
            throughout. None: `hard`, but `none` with methods that are dense or start dense.
        share: What a task may do with the weights of earlier ones under hard isolation: `none`
            (masks are disjoint), `reuse` (read, never write), `forward` (read the neurons that they
            reserved) or `all` (read all of them, always).
        reserve: The fraction of each layer's neurons that a task reserves with `forward`.
        strategy: `masks` takes the settings as they are; `cldst`, `spacenet`, `packnet`, `wsn`,
            `supsup`, `static` and `srigl` decide some of them (`continual.strategies.recipes`), as
            does `package.module:NAME` of a `Recipe`.
        baseline: Dense networks instead, by the name of one of `continual.runs.baselines`; None:
            none. Strategy, method, isolation and sharing play no part then; with `tiny` and
            `independent` the sparsity says how large the networks are.
        replay_samples: Of `replay`: training samples that are kept, of all earlier tasks together.
        ewc_lambda: Of `ewc`: the weight of the penalty.
        sparse: The sparsity of each task's network, its backend `auto` unless given. Its seed and
            horizon play no part: they are the run's seed and the length of a task.
        compiled: Compile the passes of a task in training where that can be done, see
            `continual.tasks.compiling`.
        metrics: `package.module:NAME` of functions `(model, tasks, accuracy_matrix)` that return
            further numbers of the result by name, after the last task.
        seed: Seeds all streams: weights, masks, batches, permutations.
    """

    benchmark: str = "permuted-digits"
    dataset: str | None = None
    tasks: int = 5
    epochs: int = 10
    network: str = "mlp"
    network_kwargs: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[int, ...] = (200, 200)
    channels: tuple[int, ...] = (32, 64)
    lr: float = 0.005
    lr_steps: tuple[float, ...] = ()
    lr_factor: float = 0.1
    batch_size: int = 64
    samples: int | None = None
    folder: str | None = None
    image_size: int = 32
    selector: str | None = None
    optimizer: str = "adam"
    optimizer_kwargs: Mapping[str, Any] = field(default_factory=dict)
    isolation: str | None = None
    share: str = "none"
    reserve: float = 0.1
    strategy: str = MASKS
    baseline: str | None = None
    replay_samples: int = 200
    ewc_lambda: float = 100.0
    sparse: SparseConfig = field(default_factory=_automatic)
    compiled: bool = True
    metrics: tuple[str, ...] = ()
    seed: int = 0

    FIRST_DEFAULTS: ClassVar = {"sparse": SparseConfig(update_every=10)}

    def __post_init__(self) -> None:
        check_name("network", self.network, NETWORKS)
        check_name("optimizer", self.optimizer, OPTIMIZERS)
        if self.baseline is not None:
            one_of("baseline", self.baseline, BASELINES)
            self._check_resized()
        at_least("replay_samples", self.replay_samples, 1)
        positive("ewc_lambda", self.ewc_lambda)
        resolve(self.strategy, self.sparse, self.share)
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
        check_benchmark(self.benchmark, self.dataset, self.folder, self.tasks)
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not self.hidden:
            raise InputError("hidden=(): must name at least one layer's neurons", field="hidden")
        for neurons in self.hidden:
            at_least("hidden", neurons, 1)
        channels = tuple(self.channels)
        if self.network == "resnet18" and channels == CLSpec.channels:
            channels = RESNET18
        object.__setattr__(self, "channels", channels)
        for width in channels:
            at_least("channels", width, 1)
        if self.network == "cnn" and self.side is not None:
            check_channels(self.channels, self.side)
        if self.network_kwargs and self.network in NETWORKS:
            raise InputError(
                f"network_kwargs={dict(self.network_kwargs)!r}: are for a network of your own, "
                f"{self.network!r} has hidden and channels",
                field="network_kwargs",
            )
        if "lr" in self.optimizer_kwargs:
            raise InputError(
                "optimizer_kwargs.lr: is a field of the run itself, set lr",
                field="optimizer_kwargs.lr",
            )
        if not isinstance(self.compiled, bool):
            raise InputError(f"compiled={self.compiled!r}: must be true or false", field="compiled")
        object.__setattr__(self, "metrics", tuple(self.metrics))
        for metric in self.metrics:
            if not is_reference(metric):
                raise InputError(
                    f"metrics={metric!r}: must be package.module:NAME of a function "
                    "(model, tasks, accuracy_matrix)",
                    field="metrics",
                )
        object.__setattr__(self, "lr_steps", tuple(self.lr_steps))
        for at in self.lr_steps:
            within("lr_steps", at, 0, 1)
        positive("lr_factor", self.lr_factor)
        number = isinstance(self.lr, (int, float)) and not isinstance(self.lr, bool)
        if not number or not 0 < self.lr < math.inf:
            raise InputError(f"lr={self.lr!r}: must be a positive number", field="lr")
        if sparse.facts.in_rounds and "output" not in sparse.dense:
            raise InputError(
                f"sparse.dense={sparse.dense}: must hold 'output', method {sparse.method!r} prunes "
                "what tasks share, and heads are each task's own",
                field="sparse.dense",
            )
        if self.isolation is not None and self.baseline is None:
            check_isolation(self.isolation, sparse)
            check_isolated(self.strategy, self.isolation)

    def _check_resized(self) -> None:
        if self.baseline_in_force.size != "whole" and self.network not in NETWORKS:
            raise InputError(
                f"baseline={self.baseline!r}: makes the network smaller, and {self.network!r} has "
                f"no widths; needs network {' or '.join(NETWORKS)}",
                field="baseline",
            )

    @property
    def baseline_in_force(self) -> Baseline:
        """The baseline; of a run that has none, the one that is like any other run."""
        return BASELINES[self.baseline or FINETUNE]

    @property
    def isolation_in_force(self) -> str:
        """The configured isolation, else the one that suits strategy and method."""
        if self.baseline is not None:
            return "none"
        return self.isolation or self._usual_isolation

    @property
    def _usual_isolation(self) -> str:
        method = self.sparse.facts
        shared = not method.sparse or method.starts_dense or method.in_rounds
        return "none" if shared and self.strategy == MASKS else "hard"

    @property
    def rounds(self) -> int:
        """How often the network is pruned and learns the sequence again; 0: it learns it once."""
        sparse, _ = self.settings
        return sparse.rounds if sparse.facts.in_rounds else 0

    @property
    def settings(self) -> tuple[SparseConfig, str]:
        """The sparsity and the sharing policy with what strategy or baseline decide."""
        sparse, share = resolve(self.strategy, self.sparse, self.share)
        return (sparse, share) if self.baseline is None else (sparse.as_dense(), "none")

    @property
    def size(self) -> SparseConfig:
        """A dense configuration with the fields that say how many weights a task's network has."""
        sparse, _ = resolve(self.strategy, self.sparse, self.share)
        return sized(sparse)

    @property
    def parts(self) -> tuple[str, str] | None:
        """Scenario and data set; None: the benchmark is a function of the user's own."""
        return parts_of(self.benchmark, self.dataset)

    @property
    def sized(self) -> bool:
        """Whether images are brought to `image_size`."""
        parts = self.parts
        if parts is None or is_reference(parts[1]) or is_npz(parts[1]):
            return False
        return parts[1] not in DATASETS or DATASETS[parts[1]].side is None

    @property
    def side(self) -> int | None:
        """Height and width of the images in pixels; None: the data will tell."""
        known = DATASETS.get(self.parts[1]) if self.parts else None
        return known.side if known and known.side else self.image_size if self.sized else None

    def in_force(self) -> dict[str, str | None]:
        """Return the isolation that None stands for; see `SparseConfig.in_force`.

        The method of a run with a baseline is called by the baseline's name.
        """
        if self.baseline is not None:
            return {"baseline": None, "isolation": None, METHOD: self.baseline}
        sparse = self.settings[0].facts.sparse
        return {"baseline": None, "isolation": self.isolation_in_force if sparse else None}

    def check_data(self) -> None:
        """Look for the data, and import what is the user's own.

        Raises:
            InputError: If something is not where it should be, or is something else.
        """
        fields = ("benchmark", "dataset", "network", "optimizer")
        own = [(name, getattr(self, name)) for name in fields]
        for name, value in [*own, *(("metrics", metric) for metric in self.metrics)]:
            if is_reference(value):
                calls.find(name, value)
        if self.parts is None or is_reference(self.parts[1]):
            return
        if self.parts[1] in DATASETS:
            find(self.parts[1], folder=self.folder)
        else:
            locate(self.parts[1])

    def refused_by(self) -> str:
        """Name what refuses tasks that do not fit; empty where they need not fit."""
        return "continual.runs.fitting:check" if self.isolation_in_force == "hard" else ""

    def files(self) -> dict[str, Path]:
        """Return the files, by field, whose content decides what the run is."""
        own = self.dataset is not None and is_npz(self.dataset)
        return {"dataset": locate(str(self.dataset))} if own else {}

    def canonical(self) -> CLSpec:
        """Return the equal spec with all that plays no part in it at its default."""
        default = SparseConfig()
        sparse, share = self.settings
        share = share if self.isolation_in_force == "hard" else "none"
        sparse = self.size if self.baseline_in_force.size == "task" else sparse.canonical()
        sparse = dataclasses.replace(sparse, seed=default.seed, horizon=default.horizon)
        benchmark, dataset, folder = self._canonical_data
        widths = NETWORKS[self.network].widths if self.network in NETWORKS else ()
        return dataclasses.replace(
            self,
            benchmark=benchmark,
            dataset=dataset,
            folder=folder,
            hidden=self.hidden if "hidden" in widths else CLSpec.hidden,
            sparse=sparse,
            strategy=self.strategy if self.baseline is None else MASKS,
            baseline=None if self.baseline == FINETUNE else self.baseline,
            **self._defaults_of_others,
            isolation=None
            if self.baseline or self.isolation == self._usual_isolation
            else self.isolation,
            channels=self.channels if "channels" in widths else CLSpec.channels,
            compiled=self.compiled or not sparse.facts.sparse,
            lr_factor=self.lr_factor if self.lr_steps else CLSpec.lr_factor,
            share=share,
            reserve=self.reserve if share == "forward" else CLSpec.reserve,
            image_size=self.image_size if self.sized else CLSpec.image_size,
        )

    @property
    def _defaults_of_others(self) -> dict[str, Any]:
        """Return the defaults of fields that other baselines have."""
        names = {name for other in BASELINES.values() for name in other.settings}
        unused = names.difference(self.baseline_in_force.settings)
        return {name: getattr(CLSpec, name) for name in unused}

    @property
    def _canonical_data(self) -> tuple[str, str | None, str | None]:
        """Benchmark, data set and folder, by the benchmark's own name where it has one."""
        if self.benchmark in SCENARIOS and self.dataset in DATASETS:
            return f"{self.benchmark}-{self.dataset}", None, self.folder
        return self.benchmark, self.dataset, self.folder


METHOD = "sparse.method"

RESNET18 = (64, 128, 256, 512)
"""Channels of its stages."""


def check_channels(channels: Sequence[int], side: int) -> None:
    """Check that images of `side` x `side` pixels can be halved once for each of the blocks.

    Raises:
        ValueError: Naming the value and what is allowed.
    """
    most = side.bit_length() - 1
    if not 1 <= len(channels) <= most:
        raise InputError(
            f"channels={tuple(channels)}: must name the channels of 1 to {most} blocks, each of "
            f"which halves the images of {side} x {side}",
            field="channels",
        )
