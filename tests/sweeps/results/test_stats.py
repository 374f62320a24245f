"""Statistics against numbers worked out by hand, scipy and the library of the paper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import ndtr, stdtrit
from scipy.stats import mannwhitneyu, trim_mean

from sweeps.results import stats

# Golden values below: rliable 1.2.0 (arch 7.2, pandas 2) on these two tables of 10 runs x 6 tasks.
A = np.array(
    [
        [0.801, 0.673, 0.597, 0.83, 0.582, 1.065],
        [0.853, 0.786, 0.306, 0.194, 0.326, 0.879],
        [0.776, 0.26, 0.874, 0.466, 0.466, 1.316],
        [0.747, 0.832, 0.838, 0.256, 0.86, 2.235],
        [0.345, 1.117, 1.183, 1.173, 0.513, 0.594],
        [0.348, 0.708, 1.502, 0.47, 0.167, 0.753],
        [1.187, 0.633, 1.803, 0.66, 0.742, 0.369],
        [0.602, 1.164, 1.174, 1.434, 1.121, 0.982],
        [0.16, 0.435, 2.481, 0.532, 1.067, 0.703],
        [1.083, 0.762, 0.387, 0.449, 0.898, 0.544],
    ]
)
B = np.array(
    [
        [0.238, 0.926, 1.175, 1.126, 1.138, 0.315],
        [1.545, 0.661, 0.443, 0.569, 0.492, 0.369],
        [0.706, 0.772, 0.642, 0.77, 0.652, 0.489],
        [0.528, 0.914, 0.332, 0.54, 1.114, 0.796],
        [0.97, 0.71, 0.383, 0.58, 0.753, 0.58],
        [0.651, 0.776, 1.085, 0.562, 1.234, 0.711],
        [1.139, 1.218, 1.596, 1.184, 1.191, 1.575],
        [0.288, 0.432, 1.172, 0.223, 0.785, 0.783],
        [0.32, 0.443, 0.995, 0.947, 0.532, 0.466],
        [0.495, 0.915, 0.344, 0.731, 0.333, 1.118],
    ]
)
GOLDEN = [  # statistic, table, estimate, interval of 50,000 resamples
    (stats.mean, A, 0.80105, 0.69760, 0.90988),
    (stats.mean, B, 0.757866667, 0.67330, 0.84487),
    (stats.median, A, 0.7136, 0.64545, 0.85500),
    (stats.median, B, 0.74995, 0.66270, 0.85320),
    (stats.iqm, A, 0.7363, 0.63917, 0.84770),
    (stats.iqm, B, 0.7148, 0.61787, 0.83437),
    (stats.optimality_gap, A, 0.3007, 0.23772, 0.36532),
    (stats.optimality_gap, B, 0.3023, 0.24013, 0.36467),
]
NOISE = 0.0025  # between two runs of a bootstrap of this many resamples

tables = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 7), st.integers(1, 4)),
    elements=st.floats(-100, 100, allow_nan=False),
)


@pytest.mark.parametrize(("statistic", "table", "estimate", "low", "high"), GOLDEN)
def test_aggregates_and_intervals_agree_with_rliable(
    statistic: stats.Statistic, table: stats.Floats, estimate: float, low: float, high: float
) -> None:
    found = stats.interval(statistic, table, stats.generator("golden"), repetitions=50_000)
    assert found.estimate == pytest.approx(estimate, abs=1e-9)
    assert found.low == pytest.approx(low, abs=NOISE)
    assert found.high == pytest.approx(high, abs=NOISE)


def test_the_iqm_of_a_published_example_agrees_with_rliable() -> None:
    scores = np.random.default_rng(0).normal(1, 0.3, (10, 6))
    found = stats.interval(stats.iqm, scores, stats.generator("example"))
    assert found.estimate == pytest.approx(1.0179, abs=5e-5)
    assert found.low == pytest.approx(0.948, abs=NOISE)
    assert found.high == pytest.approx(1.093, abs=NOISE)


def test_probability_of_improvement_agrees_with_rliable() -> None:
    found = stats.improvement_interval(A, B, stats.generator("golden"))
    assert found.estimate == pytest.approx(0.495833333, abs=1e-9)
    assert found.low == pytest.approx(0.390833, abs=2 * NOISE)
    assert found.high == pytest.approx(0.600000, abs=2 * NOISE)


def test_performance_profiles_agree_with_rliable() -> None:
    thresholds = [0, 0.5, 1.0, 1.5]
    assert stats.performance_profile(A, thresholds) == pytest.approx([1, 44 / 60, 16 / 60, 4 / 60])
    assert stats.performance_profile(B, thresholds) == pytest.approx([1, 43 / 60, 15 / 60, 3 / 60])


def test_aggregates_worked_out_by_hand() -> None:
    scores = [[0.0, 2.0], [1.0, 4.0], [2.0, 6.0], [9.0, 8.0]]
    assert stats.mean(scores) == 4.0
    assert stats.median(scores) == 4.0  # of the tasks' means 3 and 5
    assert stats.iqm(scores) == pytest.approx((2 + 2 + 4 + 6) / 4)  # 0 1 [2 2 4 6] 8 9
    assert stats.optimality_gap(scores, target=4.0) == pytest.approx(
        4 - (0 + 2 + 1 + 4 + 2 + 4 * 3) / 8
    )
    assert stats.performance_profile(scores, [1.0, 8.0]) == pytest.approx([6 / 8, 1 / 8])
    assert stats.iqm([[1.0], [2.0], [6.0]]) == 3.0  # of three nothing is cut


def test_probability_of_improvement_worked_out_by_hand() -> None:
    ours, theirs = [[1.0, 0.0], [3.0, 0.0]], [[2.0, 0.0], [3.0, 1.0]]
    # task 1: 1<2 1<3 3>2 3=3 -> 1.5 of 4; task 2: 0=0 0<1 twice -> 1 of 4
    assert stats.probability_of_improvement(ours, theirs) == pytest.approx((1.5 / 4 + 1 / 4) / 2)
    assert stats.probability_of_improvement(theirs, ours) == pytest.approx(1 - 2.5 / 8)
    assert stats.probability_of_improvement(ours, ours) == 0.5


def test_the_bootstrap_of_two_runs_is_known_exactly() -> None:
    # Two runs 0 and 1: the mean of a resample is 0, 1/2, 1 with probability 1/4, 1/2, 1/4.
    wide = stats.interval(stats.mean, [[0.0], [1.0]], stats.generator("two"))
    assert wide == (0.5, 0.0, 1.0)
    narrow = stats.interval(stats.mean, [[0.0], [1.0]], stats.generator("two"), confidence=0.4)
    assert narrow == (0.5, 0.5, 0.5)


@given(tables)
def test_the_iqm_is_scipys_trimmed_mean(table: stats.Floats) -> None:
    assert stats.iqm(table) == pytest.approx(trim_mean(table, 0.25, axis=None), abs=1e-9)


@given(tables, st.randoms(use_true_random=False))
def test_aggregates_do_not_depend_on_the_order_of_runs(table: stats.Floats, random: object) -> None:
    turned = np.roll(table, 1, axis=0)
    for statistic in (stats.mean, stats.median, stats.iqm, stats.optimality_gap):
        assert statistic(turned) == pytest.approx(statistic(table), abs=1e-9)


@given(tables, tables)
def test_probability_of_improvement_is_the_u_statistic(
    table: stats.Floats, other: stats.Floats
) -> None:
    ours, theirs = table[:, :1], other[:, :1]
    u = mannwhitneyu(ours[:, 0], theirs[:, 0]).statistic
    expected = u / (len(ours) * len(theirs))
    assert stats.probability_of_improvement(ours, theirs) == pytest.approx(expected, abs=1e-9)


@given(tables)
def test_intervals_lie_within_the_scores(table: stats.Floats) -> None:
    found = stats.interval(stats.iqm, table, stats.generator("within"), repetitions=50)
    slack = 1e-9
    assert table.min() - slack <= found.low <= found.high <= table.max() + slack


def test_statistics_work_on_stacks_of_tables() -> None:
    stack = np.stack([A, B])
    for statistic in (stats.mean, stats.median, stats.iqm, stats.optimality_gap):
        assert statistic(stack) == pytest.approx([float(statistic(A)), float(statistic(B))])


def test_chunks_do_not_change_what_is_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stats.interval(stats.iqm, A, stats.generator("x"), repetitions=1000)
    monkeypatch.setattr(stats, "_CHUNK", 60 * 300)
    assert stats.interval(stats.iqm, A, stats.generator("x"), repetitions=1000) == whole


def test_an_expanded_interval_reaches_as_far_out_as_students_t() -> None:
    # Hesterberg 2015, section 3.4: of ten scores, percentiles 0.86 and 99.14 instead of 2.5.
    scores = np.random.default_rng(0).normal(size=(10, 1))
    draws = {"repetitions": 20_000, "confidence": 0.95}
    plain = stats.interval(stats.mean, scores, stats.generator("x"), **draws)
    wide = stats.interval(stats.mean, scores, stats.generator("x"), expand=True, **draws)
    level = 2 * ndtr(stdtrit(9, 0.975) * (10 / 9) ** 0.5) - 1
    assert (1 - level) / 2 == pytest.approx(0.0086, abs=5e-5)
    same = stats.interval(stats.mean, scores, stats.generator("x"), confidence=level)
    assert wide == same and wide.low < plain.low < plain.high < wide.high
    assert stats.interval(stats.mean, [[3.0]], stats.generator("x"), expand=True) == (3, 3, 3)


def test_generators_are_told_apart_by_name_and_seed_alone() -> None:
    draws = {
        stats.generator(*names).integers(2**62) for names in [("a",), ("a",), ("b",), ("a", 1)]
    }
    assert len(draws) == 3
    assert stats.generator("a", seed=1).integers(2**62) not in draws
    assert stats.generator("a").integers(2**62) == stats.generator("a").integers(2**62)


@pytest.mark.parametrize("scores", [[1.0, 2.0], np.empty((0, 3)), np.empty((3, 0))])
def test_scores_of_another_shape_are_refused(scores: object) -> None:
    with pytest.raises(ValueError, match=r"must be \(runs, tasks\)"):
        stats.iqm(scores)  # type: ignore[arg-type]


def test_the_area_below_a_curve_by_hand():
    assert stats.area(np.array([[5.0, 2.0], [10.0, 4.0], [15.0, 9.0]])) == 5.0
    assert stats.area(np.array([[0.0, 7.0], [2.0, 1.0], [10.0, 3.0]])) == (2 * 1 + 8 * 3) / 10
    with pytest.raises(ValueError, match="curve of 0 points: must end beyond 0"):
        stats.area(np.empty((0, 2)))
