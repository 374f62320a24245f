"""Readers of images: the files of MNIST and CIFAR as distributed, folders, the user's own arrays.

Each returns images for training and for testing, of `uint8`.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparse_core.checks import InputError
from sparse_core.imports import is_reference, load
from supervised.data.image_sources import IMAGES, absent, find_images
from supervised.data.images import Images, InFiles, InMemory, is_grey

Both = tuple[Images, Images]

HELD_OUT = 5
"""In a folder without a test set of its own, every fifth image of a class is for testing."""

SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}


def load_images(dataset: str, size: int | None = None, data: str | Path | None = None) -> Both:
    """Load a data set by its name, a folder or a function.

    Args:
        dataset: One of `IMAGES`, a folder of images, or `package.module:NAME` of a function that
            returns four arrays: images and labels for training, images and labels for testing.
        size: Of a folder: height and width that images are brought to; None: the height of the
            first.
        data: The data folder; None: the environment variable DST_DATA.

    Raises:
        InputError: In one line, if the data is missing or broken.
    """
    if is_reference(dataset):
        return own_images(dataset)
    root = find_images(dataset, data)
    if dataset not in IMAGES:
        return image_folder(root, size)
    read = load("dataset", IMAGES[dataset].load, "a reader of images")
    found: Both = read(root)
    return found


def digits(root: Path) -> Both:
    """Load scikit-learn's 1,797 digits of 8 x 8; a fixed fifth, stratified, is for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    x, y = (bunch.images * 255 / 16).round().astype("uint8")[:, None], bunch.target.astype("int64")
    train_x, test_x, train_y, test_y = train_test_split(
        x, y, test_size=0.2, stratify=y, random_state=0
    )
    return _images(train_x, train_y), _images(test_x, test_y)


def mnist(root: Path) -> Both:
    """Load MNIST from its four files."""
    return _idx("mnist", root, "MNIST")


def fashionmnist(root: Path) -> Both:
    """Load Fashion-MNIST from its four files."""
    return _idx("fashionmnist", root, "FashionMNIST")


def cifar10(root: Path) -> Both:
    """Load CIFAR-10 from its six files of Python's pickles."""
    folder = root / "cifar-10-batches-py"
    train = [folder / f"data_batch_{number}" for number in range(1, 6)]
    return _cifar("cifar10", root, train, folder / "test_batch", b"labels")


def cifar100(root: Path) -> Both:
    """Load CIFAR-100 from its two files of Python's pickles, by its fine labels."""
    folder = root / "cifar-100-python"
    return _cifar("cifar100", root, [folder / "train"], folder / "test", b"fine_labels")


def cifar10_jpeg(root: Path) -> Both:
    """Load CIFAR-10 from images that were compressed, JPEG of quality 75."""
    return image_folder(root / "cifar10-jpeg", 32)


def image_folder(folder: Path, size: int | None = None) -> Both:
    """Return the images of `folder/{train,test}/CLASS/*`, or of `folder/CLASS/*`.

    Args:
        folder: The folder. Without `train` and `test` every fifth image of a class, in the order
            of names, is for testing.
        size: Height and width that images are brought to; None: the height of the first.

    Raises:
        InputError: If it holds something else, such as one class.
    """
    parted = all((folder / part).is_dir() for part in ("train", "test"))
    roots = [folder / "train", folder / "test"] if parted else [folder]
    listed = [_listed(root) for root in roots]
    if parted and listed[0].keys() != listed[1].keys():
        odd = sorted(listed[0].keys() ^ listed[1].keys())[0]
        raise _wrong(folder, f"class {odd!r} is in one of train and test")
    classes = list(listed[0])
    first = listed[0][classes[0]][0]
    height, channels = _form(first)
    parts: list[list[tuple[Path, int]]] = [[], []]
    for label, name in enumerate(classes):
        if parted:
            chosen: Sequence[Sequence[Path]] = [found[name] for found in listed]
        else:
            files = listed[0][name]
            if len(files) < HELD_OUT:
                raise _wrong(
                    folder,
                    f"class {name!r} has {len(files)} images, without train/ and test/ "
                    f"each class needs at least {HELD_OUT}",
                )
            test = files[HELD_OUT - 1 :: HELD_OUT]
            chosen = [sorted(set(files) - set(test)), test]
        for part, those in zip(parts, chosen, strict=True):
            part += [(file, label) for file in those]
    train, test_part = (
        Images(
            InFiles([file for file, _ in part], size or height, channels),
            torch.tensor([label for _, label in part]),
        )
        for part in parts
    )
    return train, test_part


def own_images(reference: str) -> Both:
    """Return the images of a function of the user's own.

    Raises:
        InputError: In one line, if there is no such function, or it returns something else.
    """
    expected = "a function () -> (train_x, train_y, test_x, test_y), images (n, c, h, w) of uint8"
    found = load("dataset", reference, expected, callable)()
    said = f"dataset={reference!r}"
    if not isinstance(found, Sequence) or len(found) != 4:
        raise InputError(f"{said}: gave a {type(found).__name__}, must be {expected}", "dataset")
    arrays = [torch.as_tensor(np.asarray(array)) for array in found]
    for x, y, part in zip(arrays[::2], arrays[1::2], ("train", "test"), strict=True):
        if x.dtype != torch.uint8 or x.dim() != 4 or x.shape[1] not in (1, 3):
            raise InputError(
                f"{said}: {part}_x is {tuple(x.shape)} of {x.dtype}, must be images (n, c, h, w) "
                "of torch.uint8 with 1 or 3 channels",
                field="dataset",
            )
        if y.shape != (len(x),) or y.is_floating_point() or not len(y) or int(y.min()) < 0:
            raise InputError(
                f"{said}: {part}_y is {tuple(y.shape)} of {y.dtype}, must be a class for each of "
                f"{len(x)} images, counted from 0",
                field="dataset",
            )
    if arrays[0].shape[1:] != arrays[2].shape[1:] or int(arrays[3].max()) > int(arrays[1].max()):
        raise InputError(
            f"{said}: images for training and testing must be of one shape and of the same classes",
            field="dataset",
        )
    x, y, test_x, test_y = arrays
    return Images(InMemory(x), y.long()), Images(InMemory(test_x), test_y.long())


def _images(x: np.ndarray, y: np.ndarray) -> Images:
    return Images(InMemory(torch.from_numpy(np.ascontiguousarray(x))), torch.from_numpy(y))


def _idx(dataset: str, root: Path, name: str) -> Both:
    """Read files of the form that MNIST has: a header of big-endian numbers, then bytes."""
    folder = root / name / "raw"

    def read(stem: str, kind: str, header: int) -> Tensor:
        body = (folder / f"{stem}-{kind}-ubyte").read_bytes()
        shape = np.frombuffer(body, ">i4", header)[1:].tolist()
        return torch.from_numpy(np.frombuffer(body, np.uint8, offset=4 * header).copy()).view(shape)

    try:
        train, test = (
            Images(
                InMemory(read(stem, "images-idx3", 4)[:, None]),
                read(stem, "labels-idx1", 2).long(),
            )
            for stem in ("train", "t10k")
        )
    except (OSError, ValueError, RuntimeError):  # absent, or cut short
        raise absent(dataset, root) from None
    return train, test


def _cifar(dataset: str, root: Path, train: Sequence[Path], test: Path, labels: bytes) -> Both:
    def read(files: Sequence[Path]) -> Images:
        parts = [pickle.loads(file.read_bytes(), encoding="bytes") for file in files]
        x = np.concatenate([part[b"data"] for part in parts]).reshape(-1, 3, 32, 32)
        return _images(x, np.concatenate([part[labels] for part in parts]).astype(np.int64))

    try:
        return read(train), read([test])
    except (OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
        raise absent(dataset, root) from None


def _listed(root: Path) -> dict[str, list[Path]]:
    """Return the images of each class, both in the order of their names."""
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    found = {name: sorted(_files(root / name)) for name in names}
    if len(found) < 2:
        only = f"one class, {names[0]!r}" if names else "no folder of a class"
        raise _wrong(root, f"has {only}; must hold a folder of images for each of two classes")
    empty = next((name for name, files in found.items() if not files), None)
    if empty is not None:
        raise _wrong(root, f"class {empty!r} has no image")
    return found


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


def _form(file: Path) -> tuple[int, int]:
    """Return height and channels of an image."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return min(image.size), 1 if is_grey(image) else 3
    except OSError as error:
        raise InputError(
            f"image={str(file)!r}: cannot be read as an image: {error}", field="image"
        ) from None


def _wrong(folder: Path, what: str) -> InputError:
    return InputError(f"folder={str(folder)!r}: {what}", field="dataset")
