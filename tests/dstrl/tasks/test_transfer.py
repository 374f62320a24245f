"""Continual World's metrics against numbers worked out by hand."""

from __future__ import annotations

import pytest

from dstrl.tasks.metrics import area, forgetting, forward_transfer, performance, transfers

MATRIX = [[0.9], [0.5, 0.8], [0.3, 0.6, 1.0]]


def test_performance_is_the_mean_of_the_last_row():
    assert performance(MATRIX) == pytest.approx((0.3 + 0.6 + 1.0) / 3)
    assert performance([[0.9, 0.1], [0.5, 0.8, 0.7]]) == pytest.approx(0.65)


def test_forgetting_compares_the_end_of_each_task_with_the_end_of_all():
    assert forgetting(MATRIX) == pytest.approx((0.6 + 0.2 + 0.0) / 3)
    assert forgetting([[0.9], [0.9, 0.4]]) == 0.0


def test_forgetting_is_negative_where_later_tasks_helped():
    assert forgetting([[0.5], [0.7, 1.0]]) == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([(0, 0.5), (100, 0.5)], 0.5),
        ([(0, 0.0), (100, 1.0)], 0.5),
        ([(0, 0.0), (100, 1.0), (400, 1.0)], 0.875),
        ([(50, 0.2), (150, 0.4), (250, 0.0)], 0.25),
    ],
)
def test_the_area_is_that_of_the_trapezoids(curve, expected):
    assert area(curve) == pytest.approx(expected)


def test_transfer_is_the_gain_over_what_there_was_to_gain():
    alone = [[(0, 0.0), (10, 1.0)], [(0, 0.2), (10, 0.2)]]
    faster = [[(0, 0.5), (10, 1.0)], [(0, 0.0), (10, 0.0)]]
    # (0.75 - 0.5) / 0.5 and (0 - 0.2) / 0.8
    assert transfers(faster, alone) == pytest.approx([0.5, -0.25])
    assert forward_transfer(faster, alone) == pytest.approx(0.125)
    assert transfers(alone, alone) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: area([(3, 0.5)]), "curve of 1 evaluations: need two"),
        (lambda: area([(3, 0.5), (3, 0.6)]), "need two at different steps"),
        (lambda: transfers([[(0, 0), (1, 0)]], []), "1 curves: need as many baselines, not 0"),
        (
            lambda: transfers([[(0, 1), (1, 1)]], [[(0, 1), (1, 1)]]),
            "baseline of task 0 has area 1: nothing is left",
        ),
    ],
)
def test_what_has_no_value_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
