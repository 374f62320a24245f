"""What `dst tune` searches: read from a grid's file, and what is said when it is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sparse_core.checks import InputError
from sweeps.language.grid import Grid
from sweeps.language.search import Choices, Range, read_search
from tests.sweeps.toys import ToySpec

Toys = Callable[[str], Grid]
RATE = {"low": 0.1, "high": 1.0, "log": True}


def test_spaces_are_those_of_the_file() -> None:
    search = read_search(
        {
            "rate": RATE,
            "points": {"low": 2, "high": 8},
            "sizes": [[64, 64], [8]],
            "overrides": [{"when": {"sparse.method": "set"}, "rate": [1, 2], "points": None}],
        },
        ToySpec,
    )
    assert search.names == ["rate", "points", "sizes"]
    assert search.of(ToySpec, {}) == {
        "rate": Range(0.1, 1.0, log=True),
        "points": Range(2, 8, whole=True),
        "sizes": Choices(((64, 64), (8,))),
    }
    assert search.of(ToySpec, {"sparse.method": "set"}) == {
        "rate": Choices((1.0, 2.0)),
        "sizes": Choices(((64, 64), (8,))),
    }


@pytest.mark.parametrize(
    ("space", "number", "value"),
    [
        (Range(1e-4, 1e-2), 0.00123456, 0.001235),
        (Range(0.9, 0.99995), 0.99995, 0.99995),  # rounding does not leave the range
        (Range(2, 8, whole=True), 3.0, 3),
        (Range(1e-4, 1e-2, form="lin_{}"), 0.00123456, "lin_0.001235"),
        (Range(16, 256, whole=True, form="n{}"), 64.0, "n64"),
    ],
)
def test_numbers_are_rounded_and_put_in_their_form(
    space: Range, number: float, value: object
) -> None:
    assert space.value(number) == value
    assert type(space.value(number)) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate", "search='rate': must be a mapping of fields to ranges or lists"),
        ("{overrides: []}", "search={'overrides': []}: must be a mapping of fields to ranges"),
        ("{rat: [1, 2]}", "search.rat: unknown key; did you mean 'rate'?"),
        ("{rate: 3}", "search.rate=3: must be a range such as {low: 1, high: 2}, or a list"),
        ("{rate: [1]}", "search.rate=[1]: must be a list of at least two different values"),
        ("{rate: [1, 1]}", "search.rate=[1, 1]: must be a list of at least two different values"),
        ("{rate: [1, a]}", "search.rate='a': must be a number"),
        ("{rate: {low: 1}}", "search.rate.high=None: must be a number"),
        ("{rate: {low: 1, high: .inf}}", "search.rate.high=inf: must be a number"),
        ("{rate: {low: 2, high: 1}}", "search.rate: low=2 must be less than high=1"),
        ("{rate: {low: 1, high: 1}}", "search.rate: low=1 must be less than high=1"),
        ("{rate: {low: 1, hgh: 2}}", "search.rate.hgh: unknown key; did you mean 'high'?"),
        ("{rate: {low: 1, high: 2, log: 3}}", "search.rate.log=3: must be true or false"),
        ("{rate: {low: 0, high: 2, log: true}}", "search.rate.low=0: must be positive where log"),
        ("{rate: {low: 1, high: 2, form: x}}", "search.rate.form='x': must be text with {}"),
        ("{note: {low: 1, high: 2}}", "search.note=1: must be text"),
        ("{points: {low: 1, high: 2.5}}", "search.points: low=1 and high=2.5 must be integers"),
        ("{rate: [1, 2], overrides: 3}", "search.overrides=3: must be a list of mappings with"),
        ("{rate: [1, 2], overrides: [{rate: [3, 4]}]}", "search.overrides.when=None: must be a"),
        (
            "{rate: [1, 2], overrides: [{when: {rat: 3}, rate: [3, 4]}]}",
            "search.overrides.when.rat: unknown key; did you mean 'rate'?",
        ),
        (
            "{rate: [1, 2], overrides: [{when: {rate: 3}, rates: [3, 4]}]}",
            "search.overrides.rates: unknown key; did you mean 'rate'",
        ),
        ("{seed: [1, 2]}", "search.seed: give 'seeds' of the block instead"),
    ],
)
def test_a_wrong_search_is_one_line(toys: Toys, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        toys(f"kind: toy\nsearch: {text}\ntuning_seeds: [100]")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: {rate: [1, 2]}", "tuning_seeds: must be given, for the block is to be tuned"),
        ("tuning_seeds: [1]", "search: must be given, for the block is to be tuned"),
        ("search: {rate: [1, 2]}\ntuning_seeds: 3", "tuning_seeds=3: must be a list of seeds"),
        (
            "search: {rate: [1, 2]}\ntuning_seeds: [9, 2, 1]\nseeds: 3",
            "tuning_seeds=[9, 2, 1]: 1 is among the seeds that are reported; the two must have "
            "none in common",
        ),
        (
            "search: {rate: [1, 2]}\ntuning_seeds: [9]\ngrid: {rate: [3, 4]}",
            "search.rate: is an axis of the grid too",
        ),
    ],
)
def test_tuning_and_reporting_are_kept_apart(toys: Toys, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        toys(f"kind: toy\n{text}")
    assert str(error.value) == message or str(error.value).startswith(message)
