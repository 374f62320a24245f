"""A matrix row by row is the matrix, whole or in parts."""

import numpy as np

from sparse_core.layers.rows import Rows


def test_rows_hold_any_matrix():
    rng = np.random.default_rng(0)
    mask = rng.random((10, 7)) < 0.4
    mask[3] = False
    weight = np.where(mask, rng.standard_normal((10, 7)), 0)
    rows = Rows.of_matrix(weight, mask)
    pattern, values = rows.condensed()
    assert np.array_equal(pattern.expand(values), weight) and rows.group() == 1
    again = Rows.of_pattern(pattern, values)
    assert all(
        np.array_equal(getattr(rows, f), getattr(again, f)) for f in ("indptr", "columns", "values")
    )
    kept = rng.random(10) < 0.5
    assert np.array_equal(matrix(rows.with_rows(kept)), weight[kept])
    kept = rng.random(7) < 0.5
    assert np.array_equal(matrix(rows.with_columns(kept)), weight[:, kept])
    x = rng.standard_normal(7)
    np.testing.assert_allclose(rows.times(x), weight @ x, rtol=1e-14)
    shared = np.repeat(mask[:3], 4, 0)[:10]
    assert Rows.of_matrix(np.ones((10, 7)), shared).group() == 4


def matrix(rows):
    pattern, values = rows.condensed()
    return pattern.expand(values)
