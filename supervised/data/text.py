"""Reads the sparse text format of the Extreme Classification Repository.

    samples features labels          the header, three counts
    3,17 0:0.5 12:1                  labels, then feature:value; both are counted from 0
     4:1 5:1                         begins with a space: a sample without labels

Whatever breaks the format is an `InputError` with the file and the number of the line.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from sparse_core.checks import InputError
from supervised.data.rows import Rows

HEADER = "must be the header, three counts: samples features labels"


@dataclass(frozen=True)
class Samples:
    """Samples with several labels each.

    Attributes:
        features: One row a sample.
        labels: One row a sample, without values.
    """

    features: Rows
    labels: Rows

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Tensor) -> Samples:
        """Return some samples, in the order that `(m,) int64` says."""
        return Samples(self.features.take(rows), self.labels.take(rows))


def read_samples(path: str | Path) -> Samples:
    """Read a file; see the module for its format.

    Raises:
        InputError: If it is not there or breaks the format.
    """
    file = Path(path)
    try:
        with file.open(encoding="ascii", errors="replace") as lines:
            return _Reader(file).read(lines)
    except OSError as error:
        raise InputError(f"data={str(file)!r}: {error.strerror}", field="data") from None


class _Reader:
    """Reads the lines of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.begins = {name: array("q", [0]) for name in ("features", "labels")}
        self.columns = {name: array("q") for name in ("features", "labels")}
        self.values = array("f")
        self.width = {"features": 0, "labels": 0}

    def read(self, lines: Iterable[str]) -> Samples:
        samples = -1
        for self.number, line in enumerate(lines, 1):
            text = line.rstrip("\r\n")
            if samples < 0:
                samples = self._header(text)
            elif self.number > samples + 1:
                self._refuse(text, f"one sample more than the {samples:,} of the header")
            else:
                self._sample(text)
        if samples < 0:
            self.number = 1
            self._refuse("", f"the file is empty; {HEADER}")
        if self.number < samples + 1:
            said = f"the header says {samples:,} samples, the file has {self.number - 1:,}"
            self.number = 1
            self._refuse(None, said)
        return Samples(self._rows("features"), self._rows("labels"))

    def _rows(self, name: str) -> Rows:
        values = torch.from_numpy(np.asarray(self.values)) if name == "features" else None
        columns = torch.from_numpy(np.asarray(self.columns[name]))
        begins = torch.from_numpy(np.asarray(self.begins[name]))
        return Rows(begins, columns, values, self.width[name])

    def _header(self, text: str) -> int:
        counts = [_natural(word) for word in text.split()]
        if len(counts) != 3 or None in counts or 0 in counts:
            self._refuse(text, f"{HEADER}, each at least 1")
        samples, self.width["features"], self.width["labels"] = (count or 0 for count in counts)
        return samples

    def _sample(self, text: str) -> None:
        labels, _, features = text.partition(" ")
        if not text.strip():
            self._refuse(text, "an empty line; a sample has labels, features or both")
        if ":" in labels:
            self._refuse(text, "must begin with labels, or with a space if it has none")
        self._keep("labels", [self._label(word) for word in labels.split(",")] if labels else [])
        self._keep("features", [self._feature(word, labels) for word in features.split()])

    def _label(self, word: str) -> tuple[int, float]:
        label = _natural(word)
        if label is None:
            self._refuse(word, "a label must be a number counted from 0; commas part labels")
        if label >= self.width["labels"]:
            self._refuse(word, self._beyond("label", "labels"))
        return label, 1.0

    def _feature(self, word: str, labels: str) -> tuple[int, float]:
        name, colon, said = word.partition(":")
        feature = _natural(name)
        if feature is None or not colon:
            why = "" if labels else "; the line begins with a space, so it has no labels"
            self._refuse(word, f"a feature must be index:value, its index counted from 0{why}")
        if feature >= self.width["features"]:
            self._refuse(word, self._beyond("feature", "features"))
        try:
            value = float(said)
        except ValueError:
            value = math.nan
        if not abs(value) < 3.4e38:
            self._refuse(word, "the value of a feature must be a finite number")
        return feature, value

    def _beyond(self, what: str, name: str) -> str:
        return f"the header says {self.width[name]:,} {name}, so a {what} is below that"

    def _keep(self, name: str, entries: list[tuple[int, float]]) -> None:
        entries.sort()
        for (one, _), (next_one, _) in pairwise(entries):
            if one == next_one:
                self._refuse(str(one), f"is given twice among the {name} of a sample")
        self.columns[name].extend(column for column, _ in entries)
        if name == "features":
            self.values.extend(value for _, value in entries)
        self.begins[name].append(len(self.columns[name]))

    def _refuse(self, found: str | None, why: str) -> NoReturn:
        shown = "" if found is None else f"{_short(found)!r}: "
        raise InputError(f"data={str(self.path)!r}: line {self.number}: {shown}{why}", field="data")


def _natural(word: str) -> int | None:
    """Read digits, and nothing else, as a number."""
    return int(word) if word.isascii() and word.isdigit() and len(word) < 19 else None


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
