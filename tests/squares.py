"""Fewer cases of a product of parameters: any two values still meet, all of them in slow tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def squares(*axes: Iterable[Any]) -> list[Any]:
    """Return the product of some axes for `pytest.mark.parametrize`, most of it marked slow.

    In what is left the others decide the value of the last axis, as in a Latin square. The slow
    tests are those of the whole product.

    Raises:
        ValueError: If there are two values of two axes that do not meet in it.
    """
    values = [list(axis) for axis in axes]
    places = list(itertools.product(*(range(len(axis)) for axis in values)))
    last = len(values[-1])
    kept = {place for place in places if sum(place[:-1]) % last == place[-1]}
    for one, other in itertools.combinations(range(len(values)), 2):
        met = {(place[one], place[other]) for place in kept}
        if len(met) < len(values[one]) * len(values[other]):
            raise ValueError(f"some values of axes {one} and {other} do not meet")
    return [
        pytest.param(
            *(axis[i] for axis, i in zip(values, place, strict=True)),
            marks=() if place in kept else pytest.mark.slow,
        )
        for place in places
    ]
