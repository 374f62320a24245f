"""The line that leaves out what cannot be run: as short as it can be, and it works."""

from __future__ import annotations

import itertools
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.checks import InputError
from sweeps.language.combinations import MOST_CELLS, MOST_ENTRIES, way_out
from sweeps.language.grid import parse

CELLS = [{"a": a, "b": b, "c": c} for a, b, c in itertools.product(range(4), range(3), ("x", "y"))]


def offered(text: str) -> list[dict[str, object]]:
    """Return the entries of the `exclude` that a message offers."""
    found = re.search(r"'exclude: (\[.*\])'", text)
    return [] if found is None else yaml.safe_load(found[1])


@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=MOST_ENTRIES))
def test_the_entries_leave_out_all_that_is_wrong_and_nothing_else(
    wrong: set[tuple[int, int]],
) -> None:
    def is_valid(number: int) -> bool:
        return (CELLS[number]["a"], CELLS[number]["b"]) not in wrong

    number = next(place for place in range(len(CELLS)) if not is_valid(place))
    entries = offered(way_out(CELLS, is_valid, number))
    if entries:
        out = [any(entry.items() <= cell.items() for entry in entries) for cell in CELLS]
        assert out == [not is_valid(place) for place in range(len(CELLS))]
        assert all(len(entry) <= 2 for entry in entries)  # never the field that plays no part


def test_a_value_that_is_wrong_everywhere_is_to_be_mended() -> None:
    assert way_out(CELLS, lambda number: CELLS[number]["a"] != 2, 12) == ""
    assert way_out(CELLS, lambda number: False, 0) == ""


def test_many_entries_are_not_spelt_out() -> None:
    cells = [{"a": a, "b": b} for a, b in itertools.product(range(8), range(8))]
    said = way_out(cells, lambda number: cells[number]["a"] != cells[number]["b"], 0)
    assert offered(said) == [{"a": 0, "b": 0}]
    assert "first of all" in said


def test_a_large_grid_is_not_searched() -> None:
    cells = [{"a": number, "b": (1, 2)} for number in range(MOST_CELLS + 1)]
    assert offered(way_out(cells, lambda number: pytest.fail(), 3)) == [{"a": 3, "b": [1, 2]}]


def test_the_line_can_be_pasted_into_the_file() -> None:
    text = (
        "name: x\nkind: cl\ngrid: {sparse.method: [static, set, rigl, srigl], tasks: [2, 3],\n"
        "       sparse.growth: [null, random, gradient]}\n"
    )
    with pytest.raises(InputError) as error:
        parse(text)
    entries = offered(str(error.value))
    assert len(entries) == 5
    grid = parse(f"{text}exclude: {yaml.safe_dump(entries, default_flow_style=True)}")
    assert {(run.spec.sparse.method, run.spec.sparse.growth) for run in grid.runs} == {
        ("static", None),
        ("set", None),
        ("rigl", None),
        ("srigl", None),
    }
