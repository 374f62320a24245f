"""`VisionSpec`: everything that defines a run on images, and nothing that does not.

No torch is imported here. Where the data lies is not part of a run's identity: it is the
environment variable DST_DATA.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sparse_core.checks import InputError, at_least, one_of, positive, within
from sparse_core.config import SparseConfig
from sparse_core.imports import check_module, is_reference
from sparse_core.naming import check_name
from sparse_core.sized import sized
from supervised.data.image_sources import AUGMENTATIONS, IMAGES, find_images
from supervised.vision import presets
from supervised.vision.catalogue import HEAD, NETWORKS, Network
from supervised.vision.corruptions.table import ALL, COLOUR, CORRUPTIONS

OPTIMIZERS = {"sgd": "torch.optim:SGD", "adamw": "torch.optim:AdamW"}
SCHEDULES = ("cosine", "steps", "stairs", "constant")
PRECISIONS = ("float32", "mixed")
DEVICES = ("cpu", "cuda")


def _automatic() -> SparseConfig:
    return SparseConfig(backend="auto")


@dataclass(frozen=True)
class VisionSpec:
    """A classifier of images.

    Attributes:
        dataset: `cifar10-jpeg` (CIFAR-10, compressed), `cifar10`, `cifar100`, `mnist`,
            `fashionmnist`, `digits`; a folder of images (from here, below DST_DATA or absolute) as
            `{train,test}/CLASS/*` or `CLASS/*`; or `package.module:NAME` of a function
            `() -> (train_x, train_y, test_x, test_y)`, images `(n, channels, height, width)` of
            uint8.
        image_size: Of a folder: height and width that images are brought to; None: the shorter
            side of the first.
        samples: Training images, drawn by the seed; None: all there are.
        valid_fraction: How much of the training images is held out to choose settings by: the
            curve and `valid_score` are of them.
        augment: `crop` (moved by up to an eighth of the image, zeros around) and `flip` (left and
            right) of training images; None: what suits the data set, both for a folder.
        network: One of `supervised.vision.catalogue.NETWORKS`, or `package.module:NAME` of a
            function or class `(shape, classes) -> nn.Module` from `(batch, *shape)` to
            `(batch, classes)`; `shape` is channels, height and width.
        width: How wide the network is, where it has the choice; None: as wide as usual.
        depth: Of `mlp`: hidden layers; of `vit_tiny`: blocks; None: as many as usual.
        epochs: Passes over the training images.
        batch_size: Images an optimizer step; what is left of an epoch is left out.
        optimizer: `sgd` (momentum 0.9) or `adamw`, or `package.module:NAME` of a function or class
            `(parameters, lr=..., weight_decay=..., **optimizer_kwargs)`.
        optimizer_kwargs: Further keyword arguments of the optimizer.
        lr: Learning rate after the warm-up.
        weight_decay: Of all parameters.
        warmup: Epochs, or a fraction of one, in which the learning rate rises linearly.
        schedule: How it falls: `cosine` to zero, in `steps`, in `stairs` or not (`constant`).
        lr_steps: Of `steps`: the fractions of the training at which it falls.
        lr_every: Of `stairs`: the epochs, or fractions of one, after each of which it falls.
        lr_factor: Of `steps` and `stairs`: what it is multiplied by.
        label_smoothing: Of the cross-entropy.
        ema: Decay of an exponential moving average of the weights, which is then measured, on the
            network's own active weights; 0: there is none.
        precision: `mixed` computes in bfloat16 where that is safe (`torch.autocast`).
        device: `cpu` or `cuda`.
        corruptions: Kinds of corrupted test images to measure on in the end, of
            `supervised.vision.corruptions.table.CORRUPTIONS`, or `all` of them that the images can
            have.
        corruption_images: Test images that are corrupted, drawn alike in all runs; None: all.
        weights: A file of weights to start from: a state of the dense network, such as the
            `weights.pt` that a run leaves, or one of torchvision's.
        tiny: Train a dense network instead, of as many weights as the sparse one has active: a
            narrower one of the same depth. Method and structure play no part then.
        preset: A recipe whose values stand beneath those given (`supervised.vision.presets`), in
            grids and on the command line.
        sparse: The sparsity, its backend `auto` unless given. Its seed and horizon play no part:
            they are the run's seed and length.
        seed: Seeds all streams: weights, masks, batches, augmentation, images drawn.
    """

    dataset: str = "cifar10-jpeg"
    image_size: int | None = None
    samples: int | None = None
    valid_fraction: float = 0.0
    augment: tuple[str, ...] | None = None
    network: str = "resnet8"
    width: int | None = None
    depth: int | None = None
    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "sgd"
    optimizer_kwargs: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 0.1
    weight_decay: float = 5e-4
    warmup: float = 0.0
    schedule: str = "cosine"
    lr_steps: tuple[float, ...] = (0.5, 0.75)
    lr_every: float = 2.0
    lr_factor: float = 0.1
    label_smoothing: float = 0.0
    ema: float = 0.0
    precision: str = "float32"
    device: str = "cpu"
    corruptions: tuple[str, ...] = ()
    corruption_images: int | None = 1000
    weights: str | None = None
    tiny: bool = False
    preset: str | None = None
    sparse: SparseConfig = field(default_factory=_automatic)
    seed: int = 0

    EXPAND_READS: ClassVar = ("network",)

    @classmethod
    def expand(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Put a preset's values beneath those that are given, see `supervised.vision.presets`."""
        return presets.expand(values, cls.network)

    def __post_init__(self) -> None:
        if self.preset is not None:
            raise InputError(
                f"preset={self.preset!r}: is for grids and the command line; in Python "
                "VisionSpec.expand puts its values beneath those given",
                field="preset",
            )
        if not isinstance(self.dataset, str) or not self.dataset:
            raise InputError(f"dataset={self.dataset!r}: must name a data set", field="dataset")
        check_name("network", self.network, NETWORKS)
        check_name("optimizer", self.optimizer, OPTIMIZERS)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("precision", self.precision, PRECISIONS)
        one_of("device", self.device, DEVICES)
        positive("lr", self.lr)
        positive("lr_every", self.lr_every)
        positive("lr_factor", self.lr_factor)
        for name in ("valid_fraction", "label_smoothing", "ema"):
            within(name, getattr(self, name), 0, 1, open_right=True)
        for name in ("weight_decay", "warmup"):
            within(name, getattr(self, name), 0, float("inf"), open_right=True)
        for name in ("epochs", "batch_size"):
            at_least(name, getattr(self, name), 1)
        for name in ("image_size", "samples", "width", "depth", "corruption_images"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)
        at_least("seed", self.seed, 0)
        object.__setattr__(self, "lr_steps", tuple(self.lr_steps))
        object.__setattr__(self, "corruptions", tuple(self.corruptions))
        for kind in self.corruptions:
            one_of("corruptions", kind, (*CORRUPTIONS, ALL))
        for at in self.lr_steps:
            within("lr_steps", at, 0, 1)
        if self.augment is not None:
            object.__setattr__(self, "augment", tuple(self.augment))
            for way in self.augment:
                one_of("augment", way, AUGMENTATIONS)
        if self.warmup > self.epochs:
            raise InputError(
                f"warmup={self.warmup}: must be at most the {self.epochs} epochs", field="warmup"
            )
        self._check_network()
        if self.sparse.facts.in_rounds:
            raise InputError(
                f"sparse.method={self.sparse.method!r}: trains in rounds, as runs of rl and cl can",
                field="sparse.method",
            )

    def _check_network(self) -> None:
        """Check what can be known of the network before the data is there."""
        for name in ("lr", "weight_decay"):
            if name in self.optimizer_kwargs:
                raise InputError(
                    f"optimizer_kwargs.{name}: is a field of the run itself, set {name}",
                    field=f"optimizer_kwargs.{name}",
                )
        known, data = NETWORKS.get(self.network), IMAGES.get(self.dataset)
        self._check_tiny(known)
        for name in ("width", "depth"):
            if getattr(self, name) is not None and getattr(known, name, None) is None:
                able = ", ".join(n for n, one in NETWORKS.items() if getattr(one, name) is not None)
                raise InputError(
                    f"{name}={getattr(self, name)}: network {self.network!r} has no such choice, "
                    f"these have: {able}",
                    field=name,
                )
        if data is not None:
            if self.image_size is not None:
                raise InputError(
                    f"image_size={self.image_size}: is for a folder of images, those of "
                    f"{self.dataset!r} are {data.size} x {data.size}",
                    field="image_size",
                )
            check_images(self.network, data.channels, data.size, self.dataset)
            check_corruptions(self.corruptions, data.channels)
        elif self.image_size is not None:
            check_images(self.network, None, self.image_size, self.dataset)
        if self.network == "vit_tiny" and self.width and self.width > HEAD and self.width % HEAD:
            raise InputError(
                f"width={self.width}: must be at most {HEAD}, a head's size, or a multiple of it",
                field="width",
            )

    def _check_tiny(self, known: Network | None) -> None:
        if not isinstance(self.tiny, bool):
            raise InputError(f"tiny={self.tiny!r}: must be true or false", field="tiny")
        if self.tiny and (known is None or not known.free):
            able = ", ".join(name for name, one in NETWORKS.items() if one.free)
            raise InputError(
                f"tiny=True: network {self.network!r} cannot have any width, these can: {able}",
                field="tiny",
            )
        if self.tiny and self.weights is not None:
            raise InputError(
                f"weights={self.weights!r}: are of the whole network, and tiny=True trains a "
                "smaller one",
                field="weights",
            )

    @property
    def augment_in_force(self) -> tuple[str, ...]:
        """What is done to training images."""
        if self.augment is not None:
            return self.augment
        known = IMAGES.get(self.dataset)
        return AUGMENTATIONS if known is None else known.augment

    def in_force(self) -> dict[str, Any]:
        """Return what None stands for; see `SparseConfig.in_force`."""
        known = NETWORKS.get(self.network)
        return {
            **({"sparse.method": "tiny"} if self.tiny else {}),
            "augment": "+".join(self.augment_in_force) or "none",
            "width": self.width or (known.width if known else None),
            "depth": self.depth or (known.depth if known else None),
        }

    def check_data(self) -> None:
        """Look for the files, and for the modules of what is the user's own; none is imported.

        Raises:
            InputError: If they are not where they should be.
        """
        for name in ("dataset", "network", "optimizer"):
            value = getattr(self, name)
            if is_reference(value):
                check_module(name, value, value.partition(":")[0], f"what {name} names")
        if not is_reference(self.dataset):
            find_images(self.dataset)
        if self.weights is not None and not Path(self.weights).is_file():
            raise InputError(
                f"weights={self.weights!r}: must be a file that exists", field="weights"
            )

    def files(self) -> dict[str, Path]:
        """Return the files, by field, whose content decides what the run is."""
        return {} if self.weights is None else {"weights": Path(self.weights)}

    def canonical(self) -> VisionSpec:
        """Return the equal spec with all that plays no part in it at its default."""
        default = SparseConfig()
        sparse = sized(self.sparse) if self.tiny else self.sparse.canonical()
        sparse = dataclasses.replace(sparse, seed=default.seed, horizon=default.horizon)
        known, data = NETWORKS.get(self.network), IMAGES.get(self.dataset)
        unused = []
        if self.schedule != "steps":
            unused.append("lr_steps")
        if self.schedule != "stairs":
            unused.append("lr_every")
        if self.schedule not in ("steps", "stairs"):
            unused.append("lr_factor")
        if not self.corruptions:
            unused.append("corruption_images")
        usual = AUGMENTATIONS if data is None else data.augment
        if self.augment is not None and set(self.augment) == set(usual):
            unused.append("augment")
        if known is not None:
            sizes = ("width", "depth")
            unused += [name for name in sizes if getattr(self, name) == getattr(known, name)]
        return dataclasses.replace(
            self, sparse=sparse, **{name: getattr(VisionSpec, name) for name in unused}
        )


def check_corruptions(kinds: Sequence[str], channels: int) -> None:
    """Check that images with so many channels can have kinds of corruption.

    Raises:
        InputError: If they are grey and one of them is of colours.
    """
    odd = next((kind for kind in kinds if kind in COLOUR and channels == 1), None)
    if odd is not None:
        raise InputError(
            f"corruptions={odd!r}: is for colour images, these are grey", field="corruptions"
        )


def check_images(network: str, channels: int | None, size: int, dataset: str) -> None:
    """Check that a network of ours takes images.

    Args:
        network: Its name.
        channels: Of the images; None: not known yet.
        size: Height and width of the images.
        dataset: What they are called.

    Raises:
        InputError: If they are grey and it takes colour, or cannot be cut into its patches.
    """
    known = NETWORKS.get(network)
    if known is None:
        return
    if known.colour and channels == 1:
        able = ", ".join(name for name, one in NETWORKS.items() if not one.colour)
        raise InputError(
            f"network={network!r}: takes colour images, those of {dataset!r} are grey; these take "
            f"both: {able}",
            field="network",
        )
    if known.patch and size % known.patch:
        raise InputError(
            f"network={network!r}: cuts images into patches of {known.patch} x {known.patch}, "
            f"which do not divide the {size} x {size} of {dataset!r}",
            field="network",
        )
