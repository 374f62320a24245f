"""Where images lie, and what each data set is; nothing here imports torch.

Data lies below one folder, the environment variable DST_DATA (`dst train --data`), in the layout
of the usual loaders. A folder of images is `{train,test}/CLASS/*` or `CLASS/*`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparse_core.checks import InputError
from supervised.data.sources import DATA_VARIABLE


@dataclass(frozen=True)
class ImageData:
    """A data set that is known by name.

    Attributes:
        title: What it is called.
        load: Import string of the function that reads it: `(root) -> (train, test)`.
        size: Height and width of its images in pixels.
        channels: 1 for grey images, 3 for colour.
        expected: A path below the data folder that must exist; None: it needs no data folder.
        layout: What is expected there, for an error message.
        augment: What is done to training images unless a run says otherwise.
    """

    title: str
    load: str
    size: int
    channels: int
    expected: str | None = None
    layout: str = ""
    augment: tuple[str, ...] = ()


_HERE = "supervised.data.image_files"
_COLOUR = ("crop", "flip")


def _grey(name: str, title: str, augment: tuple[str, ...] = ()) -> ImageData:
    layout = f"the files {name}/raw/*-ubyte"
    return ImageData(title, f"{_HERE}:{name.lower()}", 28, 1, f"{name}/raw", layout, augment)


IMAGES: Mapping[str, ImageData] = {
    "digits": ImageData("scikit-learn's digits", f"{_HERE}:digits", 8, 1),
    "mnist": _grey("MNIST", "MNIST"),
    "fashionmnist": _grey("FashionMNIST", "Fashion-MNIST", _COLOUR),
    "cifar10": ImageData(
        "CIFAR-10",
        f"{_HERE}:cifar10",
        32,
        3,
        "cifar-10-batches-py",
        "the files cifar-10-batches-py/data_batch_*",
        _COLOUR,
    ),
    "cifar10-jpeg": ImageData(
        "CIFAR-10 (JPEG q75)",
        f"{_HERE}:cifar10_jpeg",
        32,
        3,
        "cifar10-jpeg",
        "the folders cifar10-jpeg/{train,test}/CLASS",
        _COLOUR,
    ),
    "cifar100": ImageData(
        "CIFAR-100",
        f"{_HERE}:cifar100",
        32,
        3,
        "cifar-100-python",
        "the files cifar-100-python/{train,test}",
        _COLOUR,
    ),
}

AUGMENTATIONS = ("crop", "flip")

ALLOWED = f"one of {', '.join(IMAGES)}, a folder of images, or package.module:NAME"


def find_images(dataset: str, data: str | Path | None = None) -> Path:
    """Return the folder in which a data set is looked for, once it holds what is expected.

    Args:
        dataset: One of `IMAGES`, or a folder of images: from here, below the data folder or
            absolute.
        data: The data folder; None: the environment variable DST_DATA.

    Raises:
        InputError: If something is missing.
    """
    root = data or os.environ.get(DATA_VARIABLE)
    known = IMAGES.get(dataset)
    if known is None:
        return _folder(dataset, root)
    if known.expected is None:
        return Path()
    if not root:
        raise InputError(
            f"data=None: set {DATA_VARIABLE} (or data) to a folder that holds {known.layout}",
            field="data",
        )
    if not (Path(root) / known.expected).exists():
        raise absent(dataset, Path(root))
    return Path(root)


def absent(dataset: str, root: Path) -> InputError:
    """Return the error that a data set is not in the data folder, or not whole."""
    known = IMAGES[dataset]
    return InputError(
        f"data={str(root)!r}: no {known.title} there; expected {known.layout} in it", field="data"
    )


def _folder(dataset: str, root: str | Path | None) -> Path:
    places = [Path(), *([Path(root)] if root else [])]
    for place in places:
        if (place / dataset).is_dir():
            return place / dataset
    where = f"here or in {str(root)!r}" if root else f"here, and {DATA_VARIABLE} is not set"
    raise InputError(
        f"dataset={dataset!r}: there is no such folder {where}; must be {ALLOWED}", field="dataset"
    )
