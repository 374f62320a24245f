"""Where images come from, and what their folder must hold; nothing here imports torch.

Data lies below one folder, the environment variable DST_DATA, in the layout of the usual loaders.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sparse_core.checks import InputError

DATA_VARIABLE = "DST_DATA"


@dataclass(frozen=True)
class Source:
    """A set of images.

    Attributes:
        title: What it is called.
        classes: How many classes it has; None: as many as the folder has.
        expected: A path below the data folder that must exist; None: nothing is read from there.
        layout: What is expected there, for an error message.
        side: Height and width of its images in pixels; None: whatever they are brought to.
    """

    title: str
    classes: int | None
    expected: str | None = None
    layout: str = ""
    side: int | None = None


SOURCES = {
    "digits": Source("scikit-learn's digits", 10, side=8),
    "mnist": Source("MNIST", 10, "MNIST/raw", "the files MNIST/raw/*-ubyte", 28),
    "cifar10": Source(
        "CIFAR-10", 10, "cifar-10-batches-py", "the files cifar-10-batches-py/data_batch_*", 32
    ),
    "cifar100": Source(
        "CIFAR-100", 100, "cifar-100-python", "the files cifar-100-python/{train,test}", 32
    ),
    "tinyimagenet": Source(
        "TinyImageNet", 200, "tiny-imagenet-200", "the folder tiny-imagenet-200 as distributed"
    ),
    "folder": Source("image folder", None),
}

BENCHMARKS = (
    "split-digits",
    "permuted-digits",
    "split-mnist",
    "permuted-mnist",
    "rotated-mnist",
    "split-cifar10",
    "split-cifar100",
    "split-tinyimagenet",
    "split-folder",
)


def source_of(benchmark: str) -> str:
    """Return the source of a benchmark's images."""
    return benchmark.partition("-")[2]


def splits(classes: int) -> list[int]:
    """Return into how many tasks of as many classes each, at least two, classes can be split."""
    return [tasks for tasks in range(1, classes // 2 + 1) if classes % tasks == 0]


def find(source: str, data: str | Path | None = None, folder: str | None = None) -> Path:
    """Return the folder that a source's loader is given, once it holds what is expected.

    Args:
        source: One of `SOURCES`.
        data: The data folder; None: the environment variable DST_DATA.
        folder: Of source `folder`: the folder of images, below the data folder or absolute.

    Raises:
        InputError: If something is missing.
    """
    known = SOURCES[source]
    if source == "folder":
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
        raise missing(source, Path(root))
    return Path(root)


def missing(source: str, root: Path) -> InputError:
    """Return the error that a source is not in the data folder."""
    known = SOURCES[source]
    return InputError(
        f"data={str(root)!r}: no {known.title} there; expected {known.layout} in it", field="data"
    )
