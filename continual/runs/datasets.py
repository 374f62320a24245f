"""Data sets of images: what they are, who loads them, what their folder must hold.

A data set of this project is a line of `DATASETS` and the function that it names. Data lies below
one folder, the environment variable DST_DATA, in the layout of the usual loaders. Nothing here
imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparse_core.checks import InputError

DATA_VARIABLE = "DST_DATA"
FOLDER = "folder"
"""The data set that is a folder of images of the user's own."""


@dataclass(frozen=True)
class Dataset:
    """A set of images.

    Attributes:
        title: What it is called.
        load: Import string of `(root, size, download) -> TaskData`, as in `continual.runs.data`.
        classes: How many classes it has; None: as many as the folder has.
        expected: A path below the data folder that must exist; None: nothing is read from there.
        layout: What is expected there, for an error message.
        side: Height and width of its images in pixels; None: whatever they are brought to.
        grey: Whether its images are grey; else they are in colour.
    """

    title: str
    load: str
    classes: int | None
    expected: str | None = None
    layout: str = ""
    side: int | None = None
    grey: bool = False


_HERE = "continual.runs.data"
_CIFAR10, _CIFAR100 = "cifar-10-batches-py", "cifar-100-python"

DATASETS: Mapping[str, Dataset] = {
    "digits": Dataset("scikit-learn's digits", f"{_HERE}:digits", 10, side=8, grey=True),
    "mnist": Dataset(
        "MNIST", f"{_HERE}:mnist", 10, "MNIST/raw", "the files MNIST/raw/*-ubyte", 28, grey=True
    ),
    "fashionmnist": Dataset(
        "Fashion-MNIST",
        f"{_HERE}:fashion_mnist",
        10,
        "FashionMNIST/raw",
        "the files FashionMNIST/raw/*-ubyte",
        28,
        grey=True,
    ),
    "cifar10": Dataset(
        "CIFAR-10", f"{_HERE}:cifar10", 10, _CIFAR10, f"the files {_CIFAR10}/data_batch_*", 32
    ),
    "cifar100": Dataset(
        "CIFAR-100",
        f"{_HERE}:cifar100",
        100,
        _CIFAR100,
        f"the files {_CIFAR100}/{{train,test}}",
        32,
    ),
    "tinyimagenet": Dataset(
        "TinyImageNet",
        f"{_HERE}:tiny_imagenet",
        200,
        "tiny-imagenet-200",
        "the folder tiny-imagenet-200 as distributed",
    ),
    "core50": Dataset(
        "CORe50, 50 objects",
        f"{_HERE}:core50",
        50,
        "core50_128x128",
        "the folders core50_128x128/s{1..11}/o{1..50}",
    ),
    FOLDER: Dataset("any folder of images", f"{_HERE}:image_folder", None),
}

ALLOWED = f"one of {', '.join(DATASETS)}, a file .npz, a folder of images, or package.module:NAME"


def find(dataset: str, data: str | Path | None = None, folder: str | None = None) -> Path:
    """Return the folder that a data set's loader is given, once it holds what is expected.

    Args:
        dataset: One of `DATASETS`.
        data: The data folder; None: the environment variable DST_DATA.
        folder: Of data set `folder`: the folder of images, below the data folder or absolute.

    Raises:
        InputError: If something is missing.
    """
    known = DATASETS[dataset]
    if dataset == FOLDER:
        path = Path(data or os.environ.get(DATA_VARIABLE) or ".") / str(folder)
        if not path.is_dir():
            raise InputError(
                f"folder={str(path)!r}: must be a folder of images that exists", field="folder"
            )
        return path
    if known.expected is None:
        return Path()
    root = data or os.environ.get(DATA_VARIABLE)
    if not root:
        raise InputError(
            f"data=None: set {DATA_VARIABLE} (or data) to a folder that holds {known.layout}",
            field="data",
        )
    if not (Path(root) / known.expected).exists():
        raise missing(dataset, Path(root))
    return Path(root)


def locate(dataset: str, data: str | Path | None = None) -> Path:
    """Return the file or folder of a data set of the user's own.

    Args:
        dataset: Its path, from here, or below the data folder, or absolute.
        data: The data folder; None: the environment variable DST_DATA.

    Raises:
        InputError: If there is none.
    """
    roots = [Path(), Path(data or os.environ.get(DATA_VARIABLE) or ".")]
    for path in (root / dataset for root in roots):
        if path.is_file() if is_npz(dataset) else path.is_dir():
            return path
    places = "here" if roots[0] == roots[1] else f"here or in {str(roots[1])!r}"
    kind = "file" if is_npz(dataset) else "folder"
    raise InputError(
        f"dataset={dataset!r}: there is no such {kind} {places}; must be {ALLOWED}", field="dataset"
    )


def is_npz(dataset: str) -> bool:
    """Whether a data set is a file of tensors."""
    return dataset.endswith(".npz")


def missing(dataset: str, root: Path) -> InputError:
    """Return the error that a data set is not in the data folder."""
    known = DATASETS[dataset]
    return InputError(
        f"data={str(root)!r}: no {known.title} there; expected {known.layout} in it", field="data"
    )
