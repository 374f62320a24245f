"""Paired differences: by hand, against SciPy, and how often chance alone is called a difference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, permutation_test, ttest_1samp

from sweeps.results.estimates import t_interval
from sweeps.results.pairs import difference, holm, paired_t, sign_test

gaps = st.lists(st.integers(-50, 50), min_size=2, max_size=9).filter(lambda it: len(set(it)) > 1)


def test_a_difference_worked_out_by_hand() -> None:
    found = difference([4.0, 5.0, 9.0], [3.0, 3.0, 6.0])  # 1, 2, 3: mean 2, deviation 1
    assert found is not None
    half = 4.30265273 / 3**0.5  # the 0.975 quantile of t with two degrees of freedom
    assert (found.low, found.high) == (pytest.approx(2 - half), pytest.approx(2 + half))
    assert found.value == 2 and found.pairs == 3
    t = 2 / (1 / 3**0.5)
    assert found.p == found.p_holm == pytest.approx(1 - t / (2 + t**2) ** 0.5)  # t with 2 degrees
    assert found.p_signs == 2 / 8  # all three positive, or all three negative
    assert not found.holds


@given(gaps)
def test_tests_agree_with_scipy(values: list[int]) -> None:
    array = np.array(values, dtype=float)
    assert paired_t(array) == pytest.approx(ttest_1samp(array, 0).pvalue, abs=1e-9)
    exact = permutation_test((array,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_test(array) == pytest.approx(exact.pvalue, abs=1e-9)
    found, expected = t_interval(values, 0.9), ttest_1samp(array, 0).confidence_interval(0.9)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_signs_of_many_pairs_are_drawn() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, size=20)
    exact = permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=100_000, rng=0
    )
    assert sign_test(values) == pytest.approx(exact.pvalue, abs=0.02)
    assert sign_test(np.full(20, 1.0)) >= 1 / 4_001


@pytest.mark.parametrize(("gap", "p"), [(2.0, 0.0), (0.0, 1.0)])
def test_equal_differences_leave_no_doubt(gap: float, p: float) -> None:
    found = difference([1 + gap, 5 + gap], [1.0, 5.0])
    assert found is not None and (found.p, found.low, found.high) == (p, gap, gap)


def test_what_cannot_be_paired() -> None:
    assert difference([], []) is None and difference([1.0], [2.0]) is None
    with pytest.raises(ValueError, match="must be pairs"):
        difference([1.0, 2.0], [1.0])


def test_holm_worked_out_by_hand() -> None:
    # sorted 0.01 * 4, 0.02 * 3, 0.03 * 2 (no less than the one before), 0.5
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([]) == [] and holm([0.8, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_each_alone_and_bonferroni(probabilities: list[float]) -> None:
    corrected = holm(probabilities)
    for alone, found in zip(probabilities, corrected, strict=True):
        assert alone <= found <= min(1.0, len(probabilities) * alone) + 1e-12
    rates = false_discovery_control(probabilities)
    assert all(found >= rate - 1e-9 for found, rate in zip(corrected, rates, strict=True))


def test_chance_alone_rarely_marks_anything_in_a_table() -> None:
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(400, 10, 5)) - rng.normal(size=(400, 10, 5))
    marked = [
        min(holm([paired_t(row) for row in table])) <= 0.05 for table in tables
    ]  # without the correction, 40 % of such tables have a bold cell
    assert np.mean(marked) <= 0.075
