"""Images as tensors: the usual data sets through their usual loaders, and any folder of images.

Nothing is downloaded unless `download=True` says so. Grey images become features of mean 0 and
variance 1 (over MNIST), colours (v / 255 - 0.5) / 0.25, channel by channel.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from continual.avalanche_compat import avalanche
from continual.runs.datasets import DATASETS, FOLDER, find, missing
from sparse_core.checks import InputError
from sparse_core.imports import load

SIZE = 32
CORE50_SESSIONS, CORE50_OBJECTS, CORE50_TESTED = 11, 50, (3, 7, 10)
HELD_OUT = 5
"""In a folder without a test set of its own, every fifth image of a class is for testing."""


@dataclass(frozen=True)
class TaskData:
    """Data for one task, or for all before they are told apart.

    Attributes:
        train_x: `(n, features) float32`.
        train_y: `(n,) int64`.
        test_x: `(m, features) float32`.
        test_y: `(m,) int64`.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.train_y.max()) + 1


def load_images(
    dataset: str,
    data: str | Path | None = None,
    *,
    folder: str | None = None,
    size: int = SIZE,
    download: bool = False,
) -> TaskData:
    """Load a data set of this project.

    Args:
        dataset: One of `continual.runs.datasets.DATASETS`.
        data: Folder of data sets; None: the environment variable DST_DATA.
        folder: Of data set `folder`: the folder of images, below the data folder or absolute.
        size: TinyImageNet and folders are brought to `size` x `size` pixels.
        download: Whether to download what is missing into `data` (MNIST, CIFAR, TinyImageNet).

    Raises:
        InputError: If the data is not where it should be, or a folder holds something else than
            images of some classes.
    """
    loader: Callable[[Path, int, bool], TaskData] = load(
        "dataset", DATASETS[dataset].load, "a loader"
    )
    fetched = download and data and dataset != FOLDER
    return loader(Path(data) if fetched and data else find(dataset, data, folder), size, download)


def digits(root: Path = Path(), size: int = SIZE, download: bool = False) -> TaskData:
    """Load scikit-learn's 1,797 digits of 8 x 8; a fixed fifth, stratified, is for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    x, y = (bunch.data / 16).astype("float32"), bunch.target.astype("int64")
    parts = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    train_x, test_x, train_y, test_y = map(torch.from_numpy, parts)
    return TaskData(train_x, train_y, test_x, test_y)


def mnist(root: Path, size: int = SIZE, download: bool = False) -> TaskData:
    """Load MNIST as torchvision stores it below `root`."""
    return _torchvision("mnist", "MNIST", _grey, root, download)


def fashion_mnist(root: Path, size: int = SIZE, download: bool = False) -> TaskData:
    """Load Fashion-MNIST as torchvision stores it below `root`, scaled as MNIST is."""
    return _torchvision("fashionmnist", "FashionMNIST", _grey, root, download)


def cifar10(root: Path, size: int = SIZE, download: bool = False) -> TaskData:
    """Load CIFAR-10 as torchvision stores it below `root`."""
    return _torchvision("cifar10", "CIFAR10", _colour, root, download)


def cifar100(root: Path, size: int = SIZE, download: bool = False) -> TaskData:
    """Load CIFAR-100 as torchvision stores it below `root`."""
    return _torchvision("cifar100", "CIFAR100", _colour, root, download)


def tiny_imagenet(root: Path, size: int = SIZE, download: bool = False) -> TaskData:
    """Load TinyImageNet as it is distributed, its images brought to `size` x `size` pixels."""
    kind = avalanche.benchmarks.datasets.TinyImagenet
    try:
        with contextlib.redirect_stdout(None):
            parts = [kind(root, train=train, download=download) for train in (True, False)]
    except (RuntimeError, OSError):
        raise missing("tinyimagenet", root) from None
    train, test = (
        sorted((str(path), label) for path, label in zip(part.data, part.targets, strict=True))
        for part in parts
    )
    return _read(train, test, size)


def core50(root: Path, size: int = SIZE, download: bool = False) -> TaskData:
    """Load CORe50, a class for each object, its images brought to `size` x `size` pixels.

    Sessions 3, 7 and 10 are for testing, the other eight for training (Lomonaco and Maltoni 2017).
    Five objects each are of one category, so ten tasks of `split-core50` are its categories. All
    images together take 2 GB at 32 x 32.
    """
    parts: list[list[tuple[str, int]]] = [[], []]
    for session in range(1, CORE50_SESSIONS + 1):
        for label in range(CORE50_OBJECTS):
            folder = root / "core50_128x128" / f"s{session}" / f"o{label + 1}"
            files = sorted(str(file) for file in folder.glob("*.png"))
            if not files:
                raise missing("core50", root)
            parts[session in CORE50_TESTED] += [(file, label) for file in files]
    train, test = parts
    return _read(train, test, size)


def image_folder(folder: str | Path, size: int = SIZE, download: bool = False) -> TaskData:
    """Load `folder/{train,test}/CLASS/*`, or `folder/CLASS/*` and keep a fifth for testing.

    Args:
        folder: The folder.
        size: Images are brought to `size` x `size` pixels, in colour.
        download: Ignored: there is nowhere to download it from.

    Raises:
        ValueError: If it holds something else, in one line.
    """
    root = Path(folder)
    if (root / "train").is_dir() and (root / "test").is_dir():
        (train, classes), (test, others) = (_listed(root / part) for part in ("train", "test"))
        if classes != others:
            odd = sorted(set(classes) ^ set(others))[0]
            raise InputError(
                f"folder={str(root)!r}: class {odd!r} is in one of train and test", field="folder"
            )
    else:
        every, _ = _listed(root)
        held = held_out([label for _, label in every])
        train = [item for item, out in zip(every, held, strict=True) if not out]
        test = [item for item, out in zip(every, held, strict=True) if out]
        if len({label for _, label in test}) < len({label for _, label in train}):
            raise InputError(
                f"folder={str(root)!r}: without train/ and test/ each class needs at least "
                f"{HELD_OUT} images",
                field="folder",
            )
    return _read(train, test, size)


def _listed(root: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """Return the images of a folder with their labels, and the classes by name."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(root))
    except (FileNotFoundError, NotADirectoryError) as error:
        why = str(error).partition(". ")[0]
        raise InputError(
            f"folder={str(root)!r}: must hold a folder of images for each class: {why}",
            field="folder",
        ) from None
    return sorted(found.samples), found.classes


def _torchvision(
    dataset: str, kind: str, scale: Callable[[Any], Tensor], root: Path, download: bool
) -> TaskData:
    from torchvision import datasets

    try:
        parts = [
            getattr(datasets, kind)(str(root), train=t, download=download) for t in (True, False)
        ]
    except (RuntimeError, ValueError, OSError, EOFError):  # absent, or cut short
        raise missing(dataset, root) from None
    train, test = ((scale(part.data), torch.as_tensor(part.targets)) for part in parts)
    return TaskData(*train, *test)


def _read(train: Sequence[tuple[str, int]], test: Sequence[tuple[str, int]], size: int) -> TaskData:
    tensors: list[Tensor] = []
    for items in (train, test):
        pixels = np.stack([_pixels(path, size) for path, _ in items])
        tensors += [_colour(pixels), torch.tensor([label for _, label in items])]
    return TaskData(*tensors)


def _pixels(path: str | os.PathLike[str], size: int) -> np.ndarray:
    """Return `(size, size, 3) uint8`."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            coloured = image.convert("RGB")
            return np.asarray(coloured if image.size == (size, size) else _fit(coloured, size))
    except OSError as error:
        raise InputError(
            f"image={str(path)!r}: cannot be read as an image: {error}", field="image"
        ) from None


def _fit(image: Any, size: int) -> Any:
    from PIL import Image

    return image.resize((size, size), Image.Resampling.BILINEAR)


def held_out(labels: Iterable[int]) -> list[bool]:
    """Return, for each item, whether it is held out for testing: every fifth of its label is."""
    seen: dict[int, int] = {}
    held = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        held.append(seen[label] % HELD_OUT == 0)
    return held


def _grey(images: Tensor) -> Tensor:
    """Scale `(n, 28, 28) uint8` to `(n, 784) float32`, mean 0 and variance 1 over MNIST."""
    return (images.flatten(1).float() / 255 - 0.1307) / 0.3081


def _colour(images: np.ndarray) -> Tensor:
    """Scale `(n, height, width, 3) uint8` to `(n, 3 * height * width) float32`."""
    channels_first = torch.from_numpy(images).permute(0, 3, 1, 2)
    return channels_first.flatten(1).float().div_(255).sub_(0.5).div_(0.25)
