"""`dst data`: which data sets are there, and how those that are missing are fetched.

torchvision's and Avalanche's own downloaders fetch them and compare checksums; nothing here knows
an address. What is there already is not fetched again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from continual.runs.datasets import DATASETS
from sparse_core.checks import one_of


class FetchError(RuntimeError):
    """A data set could not be fetched; the message is one line that says what to do."""


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        fetch: Downloads it into a folder, if it is not there.
        size: What has to be downloaded, in words.
    """

    fetch: Callable[[Path], None]
    size: str


def _torchvision(kind: str) -> Callable[[Path], None]:
    def fetch(root: Path) -> None:
        from continual.avalanche_compat import import_avalanche

        import_avalanche()  # torchvision can be imported from here on, whatever its operators
        from torchvision import datasets

        for train in (True, False):
            getattr(datasets, kind)(str(root), train=train, download=True)

    return fetch


def _tiny_imagenet(root: Path) -> None:
    from continual.avalanche_compat import avalanche

    with contextlib.redirect_stdout(None):
        avalanche.benchmarks.datasets.TinyImagenet(root, train=True, download=True)


SOURCES: Mapping[str, Source] = {
    "mnist": Source(_torchvision("MNIST"), "11 MB"),
    "fashionmnist": Source(_torchvision("FashionMNIST"), "30 MB"),
    "cifar10": Source(_torchvision("CIFAR10"), "170 MB"),
    "cifar100": Source(_torchvision("CIFAR100"), "169 MB"),
    "tinyimagenet": Source(_tiny_imagenet, "248 MB"),
}
"""Data sets that can be fetched."""


def present(root: Path) -> list[str]:
    """Return the data sets that a folder holds, by the paths that their loaders look for."""
    return [
        name
        for name, known in DATASETS.items()
        if known.expected is not None and (root / known.expected).exists()
    ]


def listed(root: Path | None) -> list[tuple[str, str, str]]:
    """Return name, title and state of each data set, whether it needs a download or not.

    Args:
        root: The data folder; None: there is none.
    """
    there = present(root) if root is not None else []
    rows = []
    for name, known in DATASETS.items():
        if name in there:
            state = "there"
        elif name in SOURCES:
            state = f"dst data get {name} ({SOURCES[name].size})"
        else:
            here = "comes with scikit-learn" if known.classes else "your own (folder)"
            state = here if known.expected is None else f"bring {known.layout}"
        rows.append((name, known.title, state))
    return rows


def fetch(name: str, root: Path) -> None:
    """Fetch a data set into a folder, unless it is there.

    Raises:
        InputError: If it cannot be fetched by name.
        FetchError: If there is no network, or what came is not what it should be.
    """
    one_of("dataset", name, SOURCES)
    try:
        SOURCES[name].fetch(root)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise FetchError(
            f"{name}: cannot be fetched ({reason(error)}); bring {DATASETS[name].layout} to "
            f"{str(root)!r} by other means"
        ) from error


def reason(error: BaseException) -> str:
    """Return what a downloader said, without the addresses and files that it tried."""
    said = " ".join(str(error).split()) or type(error).__name__
    if "urlopen error" in said or "Error downloading" in said:
        return "no network, or the server does not answer"
    return said
