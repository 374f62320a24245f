"""Where data sets lie; nothing here imports torch.

Data lies below one folder, the environment variable DST_DATA (`dst train --data`). A set is one
file, of which a part is kept for testing, or a file for training and one for testing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sparse_core.checks import InputError

DATA_VARIABLE = "DST_DATA"
FORMS = ("{}_data.txt", "{}_train.txt", "{}/train.txt")
"""The file of all samples, or of those for training; `train` is `test` for the others."""

UNLABELLED = ("refuse", "drop", "keep")
"""What can become of samples without labels."""


@dataclass(frozen=True)
class Files:
    """The files of a data set.

    Attributes:
        train: Samples for training, or all.
        test: Samples for testing; None: a part of the others is kept for it.
    """

    train: Path
    test: Path | None


def split_files(data: Path) -> tuple[Path, Path]:
    """Return where the published splits of a set in one file lie, for training and testing.

    Raises:
        InputError: If they are not there.
    """
    stem = data.name.removesuffix("_data.txt")
    found = [data.with_name(f"{stem}_{part}Split.txt") for part in ("tr", "tst")]
    for path in found:
        if not path.is_file():
            raise InputError(
                f"published=True: {path.name} is not beside {str(data)!r}", field="published"
            )
    return found[0], found[1]


def check(dataset: str, published: bool) -> None:
    """Look for the files of a data set, and for its published splits if they are asked for.

    Raises:
        InputError: If something is missing, or the set is in two files and needs no split.
    """
    files = find(dataset)
    if published:
        if files.test is not None:
            raise InputError(
                f"published=True: {files.train} and {files.test.name} are split already",
                field="published",
            )
        split_files(files.train)


def find(dataset: str, data: str | Path | None = None) -> Files:
    """Return the files of a data set, in the folder `xmc` of the data folder or in itself.

    Args:
        dataset: Its name, as it stands in the names of its files.
        data: The data folder; None: the environment variable DST_DATA.

    Raises:
        InputError: If something is missing.
    """
    root = data or os.environ.get(DATA_VARIABLE)
    names = [form.format(dataset) for form in FORMS]
    if not root:
        raise InputError(
            f"data=None: set {DATA_VARIABLE} (or data) to a folder that holds xmc/{names[0]}",
            field="data",
        )
    for folder in (Path(root) / "xmc", Path(root)):
        for name in names:
            train, test = folder / name, None
            if not train.is_file():
                continue
            if name != names[0]:
                test = train.with_name(train.name.replace("train.txt", "test.txt"))
                if not test.is_file():
                    raise InputError(
                        f"data={str(root)!r}: {train} is there, {test.name} beside it is not",
                        field="data",
                    )
            return Files(train, test)
    raise InputError(
        f"data={str(root)!r}: no data set {dataset!r} there; expected {', '.join(names[:-1])} or "
        f"{names[-1]} in its folder xmc",
        field="data",
    )
