"""Rows compared with rows that are named, as a Markdown table."""

from __future__ import annotations

import pytest

from sparse_core.checks import InputError
from sweeps.bench.versus import differences, table
from sweeps.language.kinds import KINDS
from sweeps.results.estimates import estimate
from sweeps.results.facts import distil
from sweeps.results.summary import Row, Summary

KIND = KINDS["cl"]


def facts(seed, score, weights):
    result = {
        "score": score / 100,
        "curve": [],
        "layers": [],
        "sparsity": {"requested": 0.0, "achieved": 0.0},
        "trained_weights": weights,
        "provenance": {},
    }
    return distil(KIND, seed, result)


def row(label, scores, weights=(2_000, 1_000)):
    runs = tuple(facts(seed, score, list(weights)) for seed, score in scores.items())
    found = estimate([run.score for run in runs], label)
    return Row("task", label, {}, len(runs), runs, found, (), None)


ROWS = (
    row("sparse", {0: 90.0, 1: 91.0, 2: 92.0}),
    row("small", {0: 88.0, 1: 88.9, 2: 90.1}),
    row("other", {1: 91.0, 2: 92.0}),
    row("none", {}),
)
SUMMARY = Summary("cl", KIND, None, ROWS)


def test_seeds_are_paired_and_all_differences_are_corrected_together():
    (_, to_small), (to_sparse, _), (of_two, none) = differences(SUMMARY, ["sparse", "small"])[:3]
    assert to_small.value == pytest.approx(2.0) and to_sparse.value == pytest.approx(-2.0)
    assert to_small.p_holm == pytest.approx(4 * to_small.p)  # of two equal ones among four
    assert (of_two.value, of_two.pairs) == (0.0, 2)
    assert none.pairs == 2


def test_the_table_says_all_of_it():
    lines = table(SUMMARY, ["small"]).splitlines()
    assert lines[0].startswith(
        "|  | seeds | final average accuracy, tasks known (%) | weights a task"
    )
    assert lines[0].endswith("| and least | less small |")
    assert lines[2].startswith("| sparse | 3 | 91.0 [")
    assert lines[2].endswith("| 1,500 | 1,000 | **+2.0 [+1.8, +2.2]** |")
    assert lines[3].endswith("| 1,500 | 1,000 |  |")
    assert "samples kept" not in lines[0] and len(lines) == 5


def test_a_row_that_is_not_there_is_named():
    with pytest.raises(InputError, match="row='smal': must be one of sparse, small, other, none"):
        differences(SUMMARY, ["smal"])
