"""The condensed format says exactly what a mask says, and refuses what is no pattern."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.kernels import Pattern, isa, linear, plan
from tests.sparse_core.kernels.patterns import Problem, problems, random_mask

SMALL = problems((1, 2, 4, 8), st.just(1))


def test_a_mask_by_hand() -> None:
    mask = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]], np.bool_)
    pattern = Pattern.from_mask(mask)
    assert pattern.columns.tolist() == [1, 3, 0, 1, 2]
    assert pattern.columns.dtype == np.uint16
    assert pattern.indptr.tolist() == [0, 2, 5]
    assert pattern.rows.tolist() == [0, 2]
    assert pattern.absent.tolist() == [1]
    assert pattern.lengths.tolist() == [2, 0, 3]
    assert (pattern.nnz, pattern.size, pattern.fan_in) == (5, 5, None)
    by_column = pattern.transposed
    assert by_column.indptr.tolist() == [0, 1, 3, 4, 5]
    assert by_column.rows.tolist() == [2, 0, 2, 2, 0]
    assert by_column.source.tolist() == [2, 0, 3, 4, 1]


def test_a_group_by_hand() -> None:
    mask = np.array([[1, 0, 1], [1, 0, 1], [0, 1, 1]], np.bool_)
    pattern = Pattern.from_mask(mask, group=2)
    assert pattern.columns.tolist() == [0, 2, 1, 2]
    assert (pattern.nnz, pattern.size, pattern.fan_in, pattern.tail) == (6, 8, 2, True)
    dense = np.array([[1, 0, 2], [3, 0, 4], [0, 5, 6]], np.float32)
    values = pattern.condense(dense)
    assert values.reshape(2, 2, 2).tolist() == [[[1, 3], [2, 4]], [[5, 0], [6, 0]]]
    assert pattern.expand(values).tolist() == dense.tolist()


def test_an_active_weight_of_zero_stays_active() -> None:
    mask = np.array([[True, True], [False, True]])
    pattern = Pattern.from_mask(mask)
    values = pattern.condense(np.zeros((2, 2), np.float32))
    assert values.tolist() == [0, 0, 0]
    assert pattern.to_mask().tolist() == mask.tolist()


@given(SMALL)
def test_masked_and_condensed_convert_without_loss(problem: Problem) -> None:
    pattern = problem.pattern
    np.testing.assert_array_equal(pattern.to_mask(), problem.mask)
    assert pattern.nnz == problem.mask.sum()
    np.testing.assert_array_equal(pattern.absent, np.flatnonzero(~problem.mask.any(1)))
    values = pattern.condense(problem.dense, pattern.size + 2)
    np.testing.assert_array_equal(pattern.expand(values), problem.dense)
    again = Pattern.from_lengths(
        np.append(pattern.columns, [0, 0]),
        pattern.lengths,
        pattern.in_features,
        pattern.out_features,
        pattern.group,
    )
    np.testing.assert_array_equal(again.to_mask(), problem.mask)


@given(SMALL)
def test_the_transposed_index_is_the_transposed_matrix(problem: Problem) -> None:
    by_column = problem.pattern.transposed
    dense = np.zeros_like(problem.dense)
    columns = np.repeat(np.arange(problem.dense.shape[1]), np.diff(by_column.indptr))
    dense[by_column.rows, columns] = problem.values[by_column.source]
    np.testing.assert_array_equal(dense, problem.dense)
    assert all(
        (np.diff(by_column.rows[a:b].astype(int)) > 0).all()
        for a, b in zip(by_column.indptr[:-1], by_column.indptr[1:], strict=True)
    )


@given(SMALL, st.sampled_from((1, 2, 4, 8)), st.integers(0, 2**32 - 1))
def test_places_carry_weights_over_a_change(problem: Problem, group: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    out, inputs = problem.mask.shape
    mask = random_mask(rng, out, inputs, group, 0.4, 0.1)
    new = Pattern.from_mask(mask, group)
    places = new.places_in(problem.pattern, new.size + 1)
    values = np.append(problem.values, 0)[places]
    np.testing.assert_array_equal(new.expand(values), problem.dense * mask)


def test_indices_are_as_small_as_the_domain_allows() -> None:
    narrow = Pattern.from_lengths(np.array([65535]), np.array([1]), 65536, 1)
    wide = Pattern.from_lengths(np.array([65536]), np.array([1]), 65537, 1)
    assert (narrow.columns.dtype, wide.columns.dtype) == (np.uint16, np.int32)
    assert narrow.columns[0] == 65535


@pytest.mark.parametrize(
    ("columns", "lengths", "message"),
    [
        ([0, 7], [2, 0, 0], "group 0 has column 7, allowed are 0 to 3"),
        ([0, 1, -2], [2, 0, 1], "group 2 has column -2, allowed are 0 to 3"),
        ([1, 2, 2], [1, 0, 2], "group 2 has column 2 more than once"),
        ([3, 1, 3], [0, 3, 0], "group 1 has column 3 more than once"),
        ([0, 3, 1], [1, 0, 2], "columns of group 2 must ascend, got 1 after 3"),
        ([0, 1], [2, 1, 0], "lengths say 3 slots, columns has 2"),
        ([0, 1], [2, -1, 0], "group 1 has -1 slots, allowed are 0 to 4"),
        ([0, 1, 2, 3, 0], [5, 0, 0], "group 0 has 5 slots, allowed are 0 to 4"),
        ([0], [1, 0], r"lengths must be \(3,\) integers for 3 rows in groups of 1"),
        ([0.5], [1, 0, 0], "columns must be flat integers, got float64"),
    ],
)
def test_states_that_are_no_pattern(columns: list[int], lengths: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pattern.from_lengths(np.array(columns), np.array(lengths), 4, 3)


def test_a_descent_is_found_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparse_core.kernels.format._CHUNK", 3)
    lengths = np.array([4, 0, 3, 5])
    columns = np.concatenate([np.arange(n) for n in lengths])
    Pattern.from_lengths(columns, lengths, 5, 4)
    begins = {0, 4, 7}
    for slot in set(range(12)) - begins:
        wrong = columns.copy()
        wrong[slot] = wrong[slot - 1]
        with pytest.raises(ValueError, match="more than once"):
            Pattern.from_lengths(wrong, lengths, 5, 4)


def test_masks_that_are_no_pattern() -> None:
    with pytest.raises(ValueError, match="rows 2 and 3 are of one group of 2 but have different"):
        Pattern.from_mask(np.array([[1, 0], [1, 0], [1, 1], [1, 0]], np.bool_), group=2)
    with pytest.raises(ValueError, match="bool array, got float32"):
        Pattern.from_mask(np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"group must be one of \(1, 2, 4, 8, 16, 32\), got 3"):
        Pattern.from_mask(np.ones((3, 2), np.bool_), group=3)
    with pytest.raises(ValueError, match="capacity must be at least 4, got 3"):
        Pattern.from_mask(np.ones((2, 2), np.bool_)).condense(np.ones((2, 2)), 3)
    with pytest.raises(ValueError, match="patterns must have one shape"):
        Pattern.from_mask(np.ones((2, 2), np.bool_)).places_in(
            Pattern.from_mask(np.ones((2, 3), np.bool_))
        )


def test_copies_leave_compiled_plans_behind() -> None:
    problem = Problem(0, 6, 9, 2, 8)
    y = linear(problem.pattern, problem.values, problem.x)
    assert copy.deepcopy(problem.pattern) is problem.pattern
    again = pickle.loads(pickle.dumps(problem.pattern))
    assert again.plans == {} and again.group == 2
    np.testing.assert_array_equal(linear(again, problem.values, problem.x), y)


def test_bytes_at_ninety_per_cent() -> None:
    rng = np.random.default_rng(0)
    for group in (1, 2, 4, 8):
        mask = np.zeros((1024 // group, 1024), np.bool_)
        for row in mask:
            row[rng.choice(1024, 102, replace=False)] = True
        pattern = Pattern.from_mask(np.repeat(mask, group, axis=0), group)
        before = pattern.nbytes
        for bands in (plan.row_bands, plan.column_bands):
            found = bands(pattern, isa.host().tiles[-1], 1)
            assert found is None or pattern.nbytes >= before + found.nbytes
        weights_gradients_and_moments = 4 * 4 * pattern.size
        assert weights_gradients_and_moments + pattern.nbytes <= 0.18 * 4 * 4 * 1024 * 1024
