"""The study's tables: pairs by seed, intervals, numbers that survive their file."""

from __future__ import annotations

import json

import pytest

from sweeps.bench.cl_study import as_json, cell, compared, draw, from_json, mean, paired, tables
from sweeps.results.pairs import difference

NUMBERS = {
    ("static", 0.5, "erk"): {0: (90.0, 91.0, 89.0), 1: (92.0, 93.0, 91.0), 2: (94.0, 94.0, 94.0)},
    ("static", 0.5, "uniform"): {0: (88.0, 91.0, 80.0), 1: (91.0, 93.0, 82.0)},
    ("gradient", 0.5, "erk"): {0: (91.0, 92.0, 90.0), 1: (91.0, 92.0, 90.0)},
}
ERK, UNIFORM, GRADIENT = NUMBERS


def test_differences_are_of_the_seeds_that_both_have():
    found = paired(NUMBERS, ERK, UNIFORM)
    assert found.value == pytest.approx(1.5) and found.pairs == 2  # 2 and 1; seed 2 has no partner
    half = 12.706 * 0.5  # t of one degree of freedom, times the standard error
    assert (found.low, found.high) == pytest.approx((1.5 - half, 1.5 + half), abs=1e-3)
    assert paired(NUMBERS, ERK, UNIFORM, measure=1).value == 0
    assert paired(NUMBERS, ERK, ("random", 0.5, "erk")) is None


def test_cells_are_bold_where_the_correction_for_the_whole_table_leaves_a_difference():
    found = difference([3.0, 3.1, 3.2], [1.0, 1.0, 1.0])
    assert found.p == pytest.approx(0.0008, abs=1e-4)
    ((_, alone),) = compared([("a", [found])])
    assert alone == ["**+2.1 [+1.9, +2.3]**"]
    ((_, among),) = compared([("a", [found] * 80 + [None])])
    assert among == ["+2.1 [+1.9, +2.3]"] * 80 + ["none"]
    low = f"{paired(NUMBERS, GRADIENT, ERK).low:.1f}".replace("-", "\N{MINUS SIGN}")
    assert cell(paired(NUMBERS, GRADIENT, ERK)).startswith(f"+0.0 [{low}, +")
    assert cell(None) == "none"
    assert mean(NUMBERS, ERK) == "92.0" and mean({}, ERK) == "none"


def test_tables_hold_every_rule_and_distribution(tmp_path):
    text = tables(NUMBERS)
    assert "(2-3 seeds)" in text
    assert "| static | 92.0 / 89.5 |" in text
    assert "| gradient | 91.0 / none |" in text
    assert "| gradient, erk | +0.0 [" in text
    draw(NUMBERS, tmp_path / "study.svg", "study")
    assert (tmp_path / "study.svg").read_text().startswith("<?xml")


def test_numbers_survive_their_file():
    assert from_json(json.loads(json.dumps(as_json(NUMBERS)))) == NUMBERS


def test_sparsities_at_which_one_distribution_is_missing_are_left_out():
    more = {**NUMBERS, ("static", 0.8, "erk"): NUMBERS[ERK]}
    assert tables(more) == tables(NUMBERS)
