"""Rows compared with rows that are named, as a Markdown table."""

from __future__ import annotations

import pytest

from sparse_core.checks import InputError
from sweeps.bench.versus import MINUS, area, differences, table, tables
from sweeps.language.kinds import KINDS
from sweeps.results.estimates import estimate
from sweeps.results.facts import distil
from sweeps.results.summary import Row, Summary

KIND = KINDS["cl"]


def facts(seed, score, weights, curve=()):
    result = {
        "score": score / 100,
        "curve": list(curve),
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


def test_seeds_are_paired_and_all_differences_are_corrected_together():
    (_, to_small), (to_sparse, _), (of_two, none) = differences(ROWS, ["sparse", "small"])[:3]
    assert to_small.value == pytest.approx(2.0) and to_sparse.value == pytest.approx(-2.0)
    assert to_small.p_holm == pytest.approx(4 * to_small.p)  # of two equal ones among four
    assert (of_two.value, of_two.pairs) == (0.0, 2)
    assert none.pairs == 2


def test_the_table_says_all_of_it():
    lines = table(KIND, ROWS, ["small"]).splitlines()
    assert lines[0].startswith(
        "|  | seeds | final average accuracy, tasks known (%) | weights a task"
    )
    assert lines[0].endswith("| and least | less small |")
    assert lines[2].startswith("| sparse | 3 | 91.0 [")
    assert lines[2].endswith("| 1,500 | 1,000 | **+2.0 [+1.8, +2.2]** |")
    assert lines[3].endswith("| 1,500 | 1,000 |  |")
    assert "samples kept" not in lines[0] and "curve" not in lines[0] and len(lines) == 5


def curved(label, early, task="task"):
    runs = tuple(
        facts(seed, 90.0, [], [[1, value / 100], [4, (value + gap) / 100]])
        for seed, (value, gap) in enumerate(early)
    )
    return Row(task, label, {}, len(runs), runs, estimate([90.0] * len(runs), label), (), None)


CURVED = (
    curved("fast", [(80.0, 4.0), (82.0, 0.0), (84.0, 8.0)]),
    curved("slow", [(70.0, 4.0), (72.0, 0.0), (74.0, 8.0)]),
    curved("fast", [(10.0, 0.0), (11.0, 0.0)], "hard"),
    curved("slow", [(20.0, 0.0), (21.0, 0.0)], "hard"),
)


def test_areas_below_curves_are_compared_too():
    (_, slower) = differences(CURVED[:2], ["fast"], area)
    assert area(CURVED[0].runs[0]) == pytest.approx((80 + 3 * 84) / 4)
    assert slower[0].value == pytest.approx(-10) and slower[0].p == 0
    lines = table(KIND, CURVED[:2], ["fast"]).splitlines()
    assert lines[0].endswith("| less fast | curve | curve less fast |")
    assert lines[3].endswith(f"| 75.0 | **{MINUS}10.0 [{MINUS}10.0, {MINUS}10.0]** |")
    assert f"| {MINUS}" not in lines[3].split("| 75.0 |")[0]  # scores are alike


def test_rows_are_compared_within_their_task():
    found = tables(Summary("cl", KIND, None, CURVED), ["fast"])
    assert list(found) == ["task", "hard"]
    assert "10.0 [+10.0, +10.0]**" in found["hard"].splitlines()[3]


def test_a_row_that_is_not_there_is_named():
    with pytest.raises(InputError, match="row='smal': must be one of sparse, small, other, none"):
        differences(ROWS, ["smal"])
