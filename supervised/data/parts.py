"""What a run trains on, stops by and is measured on, and what is odd about it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from sparse_core.checks import InputError, one_of
from sparse_core.imports import is_reference, load
from sparse_core.streams import stream
from supervised.data.sources import UNLABELLED, find
from supervised.data.splits import published_split
from supervised.data.text import Samples, read_samples

_FEW = 1_000_000
"""So many features or labels may go unused whatever the samples have."""

_UNUSED = 1000
"""And so many more for each that the samples have."""


@dataclass(frozen=True)
class Parts:
    """The samples of a run.

    Attributes:
        train: For training.
        valid: Held out from training; they say when to stop.
        test: For the result, and nothing else.
        without_labels: How many samples without labels the files have.
        unused_features: How many features occur in no sample of the files.
    """

    train: Samples
    valid: Samples
    test: Samples
    without_labels: int = 0
    unused_features: int = 0


def load_parts(
    dataset: str,
    *,
    split: int = 0,
    published: bool = False,
    test_fraction: float = 0.25,
    valid_fraction: float = 0.1,
    unlabelled: str = "refuse",
    seed: int = 0,
    data: str | Path | None = None,
) -> Parts:
    """Read a data set and split it.

    Args:
        dataset: Its name (see `supervised.data.sources.find`), or `package.module:NAME` of a
            function that returns all samples, or those for training and those for testing.
        split: Seeds which samples of a set in one file are for testing; of published splits, which
            one.
        published: Whether a set in one file is split as published (`supervised.data.splits`).
        test_fraction: How many of them.
        valid_fraction: The fraction of the training samples that is held out.
        unlabelled: What becomes of samples without labels: `refuse` the file, `drop` them, or
            `keep` them (as samples to which no label belongs).
        seed: Seeds which samples are held out.
        data: The data folder; None: the environment variable DST_DATA.

    Raises:
        InputError: If the data is missing or broken, has samples without labels that are not
            allowed, or is too small to be split.
    """
    one_of("unlabelled", unlabelled, UNLABELLED)
    whole, places = _read(dataset, data)
    if published and (len(whole) == 2 or not places[0].is_file):
        raise InputError("published=True: is for data sets in one file", field="published")
    if len(whole) == 2:
        _check_alike(whole, places)
    _check_counts(whole[0], places[0])
    without = [_without_labels(samples) for samples in whole]
    unused = _say_unused(whole, places)
    for place, rows in zip(places, without, strict=True):
        if unlabelled == "refuse" and len(rows):
            raise InputError(
                f"unlabelled='refuse': {place.of(int(rows[0]))}: a sample without labels, one of "
                f"{len(rows)}; drop or keep them",
                field="unlabelled",
            )
    if published:
        rows_of_parts = published_split(Path(places[0].source), split, len(whole[0]))
        whole = [whole[0].take(rows) for rows in rows_of_parts]
    if unlabelled == "drop":
        whole = [samples.take(samples.labels.lengths.nonzero()[:, 0]) for samples in whole]
    if len(whole) == 2:
        train, test = whole
    else:
        train, test = _apart(whole[0], test_fraction, stream(split, "test"), "test_fraction")
    train, valid = _apart(train, valid_fraction, stream(seed, "validation"), "valid_fraction")
    return Parts(train, valid, test, sum(map(len, without)), unused)


@dataclass(frozen=True)
class _Place:
    """Where samples came from, for messages: a file, or a function of the user's own."""

    source: str
    name: str
    is_file: bool

    @property
    def whole(self) -> str:
        where = "line 1" if self.is_file else f"its {self.name}"
        return f"{'data' if self.is_file else 'dataset'}={self.source!r}: {where}"

    def of(self, row: int) -> str:
        where = f"line {row + 2}" if self.is_file else f"{self.name}, sample {row}"
        return f"{self.source!r}: {where}"


def _read(dataset: str, data: str | Path | None) -> tuple[list[Samples], list[_Place]]:
    """Return the samples of a data set: all, or those for training and those for testing."""
    if not is_reference(dataset):
        files = find(dataset, data)
        paths = [path for path in (files.train, files.test) if path is not None]
        return (
            [read_samples(path) for path in paths],
            [_Place(str(path), path.name, True) for path in paths],
        )
    expected = "a function () -> Samples, or -> (Samples, Samples)"
    made = load("dataset", dataset, expected, callable)()
    whole = [made] if isinstance(made, Samples) else made
    pair = isinstance(whole, (list, tuple)) and len(whole) in (1, 2)
    if not pair or not all(isinstance(samples, Samples) for samples in whole):
        raise InputError(
            f"dataset={dataset!r}: gave a {type(made).__name__}, must be {expected}",
            field="dataset",
        )
    names = ["samples"] if len(whole) == 1 else ["training samples", "test samples"]
    places = [_Place(dataset, name, False) for name in names]
    for samples, place in zip(whole, places, strict=True):
        _check_sound(samples, place)
    return list(whole), places


def _check_sound(samples: Samples, place: _Place) -> None:
    features, labels = samples.features, samples.labels
    said = None
    for name, rows in (("features", features), ("labels", labels)):
        fault = rows.fault()
        said = said or (fault and f"{name}: {fault}")
    if said is None and features.values is None:
        said = "features: values must not be None"
    if said is None and len(features) != len(labels):
        said = f"{len(features)} rows of features, {len(labels)} of labels"
    if said is not None:
        raise InputError(f"{place.whole}: {said}", field="dataset")


def _apart(
    samples: Samples, fraction: float, generator: torch.Generator, field: str
) -> tuple[Samples, Samples]:
    """Draw a fraction of the samples; both parts keep the order of the file."""
    count = round(fraction * len(samples))
    if not 0 < count < len(samples):
        raise InputError(
            f"{field}={fraction}: of {len(samples)} samples this is {count}; each part needs one",
            field=field,
        )
    order = torch.randperm(len(samples), generator=generator)
    return samples.take(order[count:].sort()[0]), samples.take(order[:count].sort()[0])


def _without_labels(samples: Samples) -> torch.Tensor:
    return (samples.labels.lengths == 0).nonzero()[:, 0]


def _check_alike(whole: list[Samples], places: list[_Place]) -> None:
    for name in ("features", "labels"):
        one, other = (getattr(samples, name).width for samples in whole)
        if one != other:
            raise InputError(
                f"{places[1].whole}: {other:,} {name}, {places[0].name} has {one:,}",
                field="dataset",
            )


def _check_counts(samples: Samples, place: _Place) -> None:
    """Refuse counts that say nothing of how many features or labels there are."""
    for name in ("features", "labels"):
        rows = getattr(samples, name)
        limit = _UNUSED * len(rows.columns) + _FEW
        if rows.width > limit:
            raise InputError(
                f"{place.whole}: {rows.width:,} {name}: must be at most {limit:,}, for its samples "
                f"have {len(rows.columns):,} in all",
                field="dataset",
            )


def _say_unused(whole: list[Samples], places: list[_Place]) -> int:
    """Warn of features that no sample has: often the sign of indices counted from 1."""
    counts = torch.stack([samples.features.counts() for samples in whole]).sum(0)
    unused = (counts == 0).nonzero()[:, 0]
    if len(unused):
        warnings.warn(
            f"{places[0].whole}: {len(unused):,} of {len(counts):,} features occur in no sample, "
            f"the first is {int(unused[0])}",
            stacklevel=3,
        )
    return len(unused)
