"""What a recommender trains on, is selected by and is tested on: who likes what."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparse_core.checks import InputError, one_of
from sparse_core.imports import is_reference, load
from sparse_core.streams import stream
from supervised.data.pair_sources import KNOWN, UNTRAINED, find_pairs
from supervised.data.pairs import Pairs, read_pairs
from supervised.data.rows import Rows


@dataclass(frozen=True)
class Interactions:
    """The pairs of a run, a row a user.

    Attributes:
        train: Items for training.
        valid: Items held out from training; they say which epoch is best.
        test: Items for the result, and nothing else.
        duplicates: How many pairs of the files were given again.
        untrained: How many users have pairs for testing only, which are left out.
    """

    train: Rows
    valid: Rows
    test: Rows
    duplicates: int = 0
    untrained: int = 0

    @property
    def users(self) -> int:
        """How many users there are."""
        return len(self.train)

    @property
    def items(self) -> int:
        """How many items there are."""
        return self.train.width

    @property
    def known(self) -> Rows:
        """The items for training and those held out, which are never recommended in the test."""
        owners = torch.cat([self.train.owners, self.valid.owners])
        return matrix(owners, torch.cat([self.train.columns, self.valid.columns]), *self._shape)

    @property
    def _shape(self) -> tuple[int, int]:
        return self.users, self.items


def load_interactions(
    dataset: str,
    *,
    form: str | None = None,
    untrained: str = "refuse",
    valid_fraction: float = 0.1,
    seed: int = 0,
    data: str | Path | None = None,
) -> Interactions:
    """Read a data set, and hold some of its pairs for training out.

    Args:
        dataset: Its name (`supervised.data.pair_sources.find_pairs`), or `package.module:NAME` of a
            function that returns two or three `Pairs`: for training, for testing and, if they are
            set apart already, those held out.
        form: One of `FORMS`; None: that of a known data set, else `lists`.
        untrained: What becomes of users with pairs for testing and none for training: `refuse`
            the data, or `skip` them.
        valid_fraction: How much of the pairs for training is held out if the set holds none out
            itself; each user keeps one.
        seed: Seeds which.
        data: The data folder; None: the environment variable DST_DATA.

    Raises:
        InputError: If the data is missing or broken, or a user cannot be trained.
    """
    one_of("untrained", untrained, UNTRAINED)
    files = _read(dataset, form, data)
    users, items = (1 + max(int(getattr(p, n).max()) for p in files) for n in ("users", "items"))
    shape = users, items
    unique = [_unique(pairs, items) for pairs in files]
    duplicates = sum(map(len, files)) - sum(map(len, unique))
    if duplicates:
        warnings.warn(
            f"dataset={dataset!r}: {duplicates:,} pairs are given more than once and count once",
            stacklevel=2,
        )
    train, test = unique[:2]
    if len(unique) == 3:
        valid = unique[2]
    else:
        held = _held_out(train, valid_fraction, seed)
        train, valid = train.take(~held), train.take(held)
    liked = torch.bincount(train.users, minlength=users)
    _check_negatives(liked, items, train)
    left_out = 0
    for pairs in (valid, test):
        strange = liked[pairs.users] == 0
        if untrained == "refuse" and bool(strange.any()):
            first = int(strange.nonzero()[0, 0])
            count = len(torch.unique(pairs.users[strange]))
            raise InputError(
                f"untrained='refuse': {pairs.at(first)}: user {int(pairs.users[first])} has no "
                f"pair for training, one of {count}; skip them",
                field="untrained",
            )
        left_out = len(torch.unique(pairs.users[strange])) if pairs is test else 0
    kept = [p.take(liked[p.users] > 0) for p in (train, valid, test)]
    of_train, of_valid, of_test = (matrix(p.users, p.items, *shape) for p in kept)
    return Interactions(of_train, of_valid, of_test, duplicates, left_out)


def matrix(users: Tensor, items: Tensor, height: int, width: int) -> Rows:
    """Return pairs `(n,) int64` as a row of items a user, each once."""
    keys = torch.unique(users * width + items)
    lengths = torch.bincount(keys // width, minlength=height)
    begins = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return Rows(begins, keys % width, None, width)


def _read(dataset: str, form: str | None, data: str | Path | None) -> list[Pairs]:
    """Return the pairs for training, for testing and, if there are some, those held out."""
    if not is_reference(dataset):
        files = find_pairs(dataset, data)
        paths = [path for path in (files.train, files.test, files.valid) if path is not None]
        return [read_pairs(path, form or KNOWN.get(dataset, "lists")) for path in paths]
    expected = "a function () -> (Pairs, Pairs), or three of them"
    made = load("dataset", dataset, expected, callable)()
    several = isinstance(made, (list, tuple)) and len(made) in (2, 3)
    if not several or not all(isinstance(pairs, Pairs) and len(pairs) for pairs in made):
        raise InputError(
            f"dataset={dataset!r}: gave a {type(made).__name__}, must be {expected}",
            field="dataset",
        )
    return list(made)


def _unique(pairs: Pairs, items: int) -> Pairs:
    """Drop pairs that are given again."""
    keys = pairs.users * items + pairs.items
    order = keys.argsort(stable=True)
    again = torch.zeros(len(keys), dtype=torch.bool)
    again[order[1:]] = keys[order].diff() == 0
    return pairs.take(~again)


def _held_out(pairs: Pairs, fraction: float, seed: int) -> Tensor:
    """Draw pairs, `(n,) bool`, so that each user keeps one."""
    draws = torch.rand(len(pairs), generator=stream(seed, "held out"), dtype=torch.float64)
    best = torch.full((int(pairs.users.max()) + 1,), -1.0, dtype=torch.float64)
    best.scatter_reduce_(0, pairs.users, draws, "amax")
    held = (draws < fraction) & (draws < best[pairs.users])
    if not bool(held.any()):
        raise InputError(
            f"valid_fraction={fraction}: of {len(pairs)} pairs none can be held out; each user "
            "keeps one",
            field="valid_fraction",
        )
    return held


def _check_negatives(liked: Tensor, items: int, train: Pairs) -> None:
    full = (liked >= items).nonzero()[:, 0]
    if len(full):
        user = int(full[0])
        where = int((train.users == user).nonzero()[0, 0])
        raise InputError(
            f"{train.at(where)}: user {user} has all {items} items, so it has no negative ones; "
            "leave it out",
            field="data",
        )
