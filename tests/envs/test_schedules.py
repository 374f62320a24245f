"""Schedules: tables, bounds under any settings, random access, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.schedules import Linear, RandomWalk, Sine, Step, as_mapping, schedule
from sparse_core import InputError


def along(plan, clocks, size=1, seed=0):
    path = plan.path(np.random.default_rng(seed), size)
    return np.array([path(clock) for clock in clocks])


@pytest.mark.parametrize(
    ("plan", "table"),
    [
        (Step((1, 2, 0.5), every=10), {0: 1, 9: 1, 10: 2, 19: 2, 20: 0.5, 29: 0.5, 30: 1, 45: 2}),
        (Step([3.0]), {0: 3, 1: 3, 10**9: 3}),
        (Linear(last=3, over=4), {0: 1, 1: 1.5, 2: 2, 3: 2.5, 4: 3, 100: 3}),
        (Linear(first=2, last=1, over=10, after=5), {0: 2, 5: 2, 10: 1.5, 15: 1, 16: 1}),
        (Sine(amplitude=0.5, period=8), {0: 1, 2: 1.5, 4: 1, 6: 0.5, 8: 1, 10: 1.5}),
    ],
)
def test_factors_follow_the_table(plan, table):
    np.testing.assert_allclose(along(plan, table)[:, 0], list(table.values()), rtol=1e-12)


def test_a_random_walk_adds_the_draws_of_its_stream_to_the_logarithm():
    walk = RandomWalk(scale=0.1, every=5, low=1e-6, high=1e6)
    factors = along(walk, [0, 4, 5, 9, 10, 15], size=2, seed=7)
    draws = 0.1 * np.random.default_rng(7).standard_normal((3, 2))
    sums = np.cumsum(draws, axis=0)
    logarithms = [np.zeros(2), np.zeros(2), sums[0], sums[0], sums[1], sums[2]]
    np.testing.assert_allclose(factors, np.exp(logarithms), rtol=1e-9)
    assert factors[0].tolist() == [1.0, 1.0]


def test_a_random_walk_is_thrown_back_at_its_bounds():
    walk = RandomWalk(scale=1.0, low=0.5, high=2.0)
    draw = np.random.default_rng(0).standard_normal()
    bound = math.log(2)
    folded = (draw + bound) % (4 * bound)
    expected = folded - bound if folded <= 2 * bound else 3 * bound - folded
    assert along(walk, [1])[0, 0] == pytest.approx(math.exp(expected))


factors = st.floats(0.01, 100)
plans = st.one_of(
    st.builds(Step, st.lists(factors, min_size=1, max_size=5), st.integers(1, 50)),
    st.builds(Linear, factors, st.integers(1, 200), factors, st.integers(0, 50)),
    st.builds(Sine, st.floats(0, 0.99), st.integers(1, 100)),
    st.builds(
        RandomWalk, st.floats(0.001, 10), st.integers(1, 20), st.floats(0.01, 1), st.floats(1, 100)
    ),
)
clocks = st.lists(st.integers(0, 300), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(plans, clocks)
def test_factors_are_within_the_bounds_and_follow_from_seed_and_clock_alone(plan, clocks):
    low, high = plan.bounds
    assert 0 < low <= high
    visited = along(plan, clocks, size=3)
    assert visited.shape == (len(clocks), 3)
    assert (low <= visited).all() and (visited <= high).all()
    alone = np.concatenate([along(plan, [clock], size=3) for clock in clocks])
    np.testing.assert_array_equal(visited, alone)


@settings(max_examples=50, deadline=None)
@given(plans)
def test_a_schedule_is_made_again_from_its_mapping(plan):
    assert schedule("x", as_mapping(plan)) == plan


@given(st.integers(0, 10**9), factors, st.integers(1, 10**6))
def test_what_does_not_move_is_exact(clock, factor, over):
    assert Linear(last=factor, first=factor, over=over).factor(clock) == factor
    assert Sine(amplitude=0, period=over).factor(clock) == 1.0
    assert along(RandomWalk(scale=1, every=10**9, low=1, high=1), [clock % 1000])[0, 0] == 1.0


class Ramp:
    """A schedule of somebody else's."""

    bounds = (1.0, 2.0)

    def __init__(self, over):
        self.over = over

    def path(self, rng, size):
        return lambda clock: np.full(size, 1 + min(clock / self.over, 1))


def test_a_schedule_of_ones_own_is_named_by_where_it_is():
    plan = schedule("x", {"kind": f"{__name__}:Ramp", "over": 4})
    assert along(plan, [0, 2, 9], size=2).tolist() == [[1, 1], [1.5, 1.5], [2, 2]]
    assert schedule("x", Ramp(3)).over == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Step([]), "factors=[]: must have at least one"),
        (lambda: Step("12"), "factors='12': must be a list of positive numbers"),
        (lambda: Step([1, 0]), "factors=0.0: must be a positive number"),
        (lambda: Step([1], every=0), "every=0: must be an integer of at least 1"),
        (lambda: Linear(last=-1, over=5), "last=-1.0: must be a positive number"),
        (lambda: Linear(last=1, over=0.5), "over=0.5: must be an integer of at least 1"),
        (lambda: Sine(amplitude=1, period=5), "amplitude=1.0: must be a number in [0, 1)"),
        (lambda: RandomWalk(scale=1, low=2), "low=2.0: must be at most 1"),
        (lambda: RandomWalk(scale=1, high=0.9), "high=0.9: must be at least 1"),
        (lambda: schedule("x", 3), "x=3: must be a schedule, or a mapping"),
        (lambda: schedule("x", Sine), "must be a schedule, or a mapping with kind"),
        (lambda: schedule("x", {}), "x.kind=None: must be one of step, linear, sine, random-walk"),
        (lambda: schedule("x", {"kind": "saw"}), "x.kind='saw': must be one of step, linear"),
        (lambda: schedule("x", {"kind": "sine", "amplitude": 2, "period": 3}), "x.amplitude=2.0:"),
        (lambda: schedule("x", {"kind": "sine", "width": 2}), "sine takes amplitude, period"),
        (lambda: schedule("x", {"kind": "no.where:X"}), "x.kind='no.where:X': there is no module"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)
