"""Where pairs of users and items lie; nothing here imports torch.

A data set is a folder of the data folder (the environment variable DST_DATA, `dst train --data`)
that holds `train.txt`, `test.txt` and, where pairs to select models by are set apart already,
`valid.txt`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sparse_core.checks import InputError
from supervised.data.sources import DATA_VARIABLE

FORMS = ("lists", "pairs")
"""How a line is written: `user item item ...`, each user once; or `user item`, or a third number,
a rating above zero."""

KNOWN = {"citeulike": "pairs", "gowalla": "lists"}
"""The forms of data sets that are known by name; of others `lists` is the default."""


UNTRAINED = ("refuse", "skip")
"""What can become of users that have pairs for testing, and none for training."""


@dataclass(frozen=True)
class PairFiles:
    """The files of a data set.

    Attributes:
        train: Pairs for training.
        test: Pairs for testing.
        valid: Pairs to select models by; None: some of those for training are held out.
    """

    train: Path
    test: Path
    valid: Path | None


def find_pairs(dataset: str, data: str | Path | None = None) -> PairFiles:
    """Return the files of a data set.

    Args:
        dataset: Its folder, in the data folder or in its folder `rec`.
        data: The data folder; None: the environment variable DST_DATA.

    Raises:
        InputError: If something is missing.
    """
    root = data or os.environ.get(DATA_VARIABLE)
    if not root:
        raise InputError(
            f"data=None: set {DATA_VARIABLE} (or data) to a folder that holds {dataset}/train.txt",
            field="data",
        )
    for folder in (Path(root) / "rec" / dataset, Path(root) / dataset):
        train, test, valid = (folder / f"{name}.txt" for name in ("train", "test", "valid"))
        if not train.is_file():
            continue
        if not test.is_file():
            raise InputError(
                f"data={str(root)!r}: {train} is there, {test.name} beside it is not", field="data"
            )
        return PairFiles(train, test, valid if valid.is_file() else None)
    raise InputError(
        f"data={str(root)!r}: no data set {dataset!r} there; expected {dataset}/train.txt and "
        f"{dataset}/test.txt",
        field="data",
    )
