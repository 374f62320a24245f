"""Reads pairs of users and items, in one of two forms (`supervised.data.pair_sources.FORMS`).

    0 17 4 23        lists: a user and all of its items
    0 17 1           pairs: a user, an item and, if need be, a rating above zero

Ids are counted from 0. Whatever breaks the format is an `InputError` with the file and the number
of the line.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from sparse_core.checks import InputError, one_of
from supervised.data.pair_sources import FORMS

_SPARSE_IDS = 20
"""Ids may go to so many times the number of different ones: a table has a row for each."""

_FEW = 1000


@dataclass(frozen=True)
class Pairs:
    """Pairs of a file, in its order.

    Attributes:
        users: `(n,) int64`.
        items: `(n,) int64`.
        lines: `(n,) int64`, the line of each pair.
        source: The file, or where else pairs came from.
    """

    users: Tensor
    items: Tensor
    lines: Tensor
    source: str

    def __len__(self) -> int:
        return len(self.users)

    def take(self, which: Tensor) -> Pairs:
        """Return some pairs, named by `(m,)` integers or bools."""
        return Pairs(self.users[which], self.items[which], self.lines[which], self.source)

    def at(self, index: int) -> str:
        """Return where a pair stands, to begin an error with."""
        return f"data={self.source!r}: line {int(self.lines[index])}"


def read_pairs(path: str | Path, form: str) -> Pairs:
    """Read a file; see the module for its forms.

    Args:
        path: The file.
        form: One of `FORMS`.

    Raises:
        InputError: If it is not there, breaks the format or holds no pair.
    """
    one_of("form", form, FORMS)
    file = Path(path)
    try:
        with file.open(encoding="ascii", errors="replace") as lines:
            return _Reader(file, form).read(lines)
    except OSError as error:
        raise InputError(f"data={str(file)!r}: {error.strerror}", field="data") from None


class _Reader:
    """Reads the lines of one file."""

    def __init__(self, path: Path, form: str) -> None:
        self.path, self.form, self.number = path, form, 1
        self.users, self.items, self.lines = array("q"), array("q"), array("q")
        self.seen: dict[int, int] = {}

    def read(self, lines: Iterable[str]) -> Pairs:
        read = self._list if self.form == "lists" else self._pair
        for self.number, line in enumerate(lines, 1):
            words = line.split()
            if not words:
                self._refuse("", "an empty line; each begins with a user")
            read(words)
        if not self.users:
            self._refuse(None, "there is no pair of a user and an item in the file")
        users, items, lines = (
            torch.from_numpy(np.asarray(found)) for found in (self.users, self.items, self.lines)
        )
        pairs = Pairs(users, items, lines, str(self.path))
        for name, ids in (("user", pairs.users), ("item", pairs.items)):
            self._check_gaps(name, ids, pairs)
        return pairs

    def _list(self, words: list[str]) -> None:
        user = self._id(words[0], "a user")
        if user in self.seen:
            why = f"user {user} is in line {self.seen[user]} already; form 'pairs' allows that"
            self._refuse(None, why)
        self.seen[user] = self.number
        items = [self._id(word, "an item") for word in words[1:]]
        self.users.extend([user] * len(items))
        self.items.extend(items)
        self.lines.extend([self.number] * len(items))

    def _pair(self, words: list[str]) -> None:
        if len(words) not in (2, 3):
            self._refuse(" ".join(words), "must be a user, an item and, if need be, a rating")
        if len(words) == 3:
            try:
                rating = float(words[2])
            except ValueError:
                rating = math.nan
            if not 0 < rating < math.inf:
                self._refuse(words[2], "a rating must be a number above zero: all pairs are likes")
        self.users.append(self._id(words[0], "a user"))
        self.items.append(self._id(words[1], "an item"))
        self.lines.append(self.number)

    def _id(self, word: str, what: str) -> int:
        if not (word.isascii() and word.isdigit() and len(word) < 19):
            self._refuse(word, f"{what} must be a number counted from 0")
        return int(word)

    def _check_gaps(self, name: str, ids: Tensor, pairs: Pairs) -> None:
        """Refuse ids that say nothing of how many there are."""
        different, largest = len(torch.unique(ids)), int(ids.max())
        if largest >= _SPARSE_IDS * different + _FEW:
            where = int(ids.argmax())
            raise InputError(
                f"{pairs.at(where)}: {name} {largest}: the file has {different:,} different "
                f"{name}s; number them from 0 without large gaps, each id is a row of a table",
                field="data",
            )

    def _refuse(self, found: str | None, why: str) -> NoReturn:
        short = found if found is None or len(found) <= 40 else found[:37] + "..."
        shown = "" if short is None else f"{short!r}: "
        raise InputError(f"data={str(self.path)!r}: line {self.number}: {shown}{why}", field="data")
