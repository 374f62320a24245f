"""The widest dense network within a number of weights."""

from __future__ import annotations

import pytest

from sparse_core.budgets.widths import widest_within


def count(widths):
    return 10 * widths[0] + widths[0] * widths[1]


@pytest.mark.parametrize(
    ("budget", "widths"),
    [(6000, [100, 50]), (5999, [101, 49]), (600, [26, 13]), (11, [1, 1])],
)
def test_the_widest_within_the_budget(budget, widths):
    assert widest_within([100, 50], count, budget, "hidden") == widths


def test_it_is_the_widest():
    assert count([26, 13]) == 598 <= 600 < count([27, 13]) == 621
    assert count([101, 49]) == 5959 <= 5999 < count([102, 49]) == 6018 < count([101, 50])


def test_parts_shrink_alike_and_the_last_gets_what_is_left():
    def weights(parts):
        return 5 * parts["pi"][0] + 7 * parts["vf"][0]

    assert widest_within({"pi": [8], "vf": [8]}, weights, 91, "hidden") == {"pi": [8], "vf": [7]}


@pytest.mark.parametrize("budget", [0, 10])
def test_a_budget_that_no_network_meets_is_refused(budget):
    message = r"^net_arch=\[8\]: no dense network of this shape has at most \d+ weights, wait$"
    with pytest.raises(ValueError, match=message):
        widest_within([8], lambda arch: 11 * arch[0], budget, "net_arch", "wait")
