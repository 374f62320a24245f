"""`Rows` against SciPy's CSR."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.checks import InputError
from supervised.data.rows import Rows


def rows_of(matrix) -> Rows:
    """Return a matrix as `Rows`."""
    csr = scipy.sparse.csr_array(matrix)
    csr.sort_indices()
    begins, columns = (torch.from_numpy(a.astype(np.int64)) for a in (csr.indptr, csr.indices))
    return Rows(begins, columns, torch.from_numpy(csr.data.astype(np.float32)), csr.shape[1])


def random_matrix(seed: int, rows: int, width: int, density: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kept = rng.random((rows, width)) < density
    return (kept * rng.integers(1, 9, (rows, width))).astype(np.float32)


@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 9), st.floats(0, 1))
def test_rows_are_a_matrix(seed, count, width, density):
    matrix = random_matrix(seed, count, width, density)
    rows = rows_of(matrix)
    assert len(rows) == count
    assert np.array_equal(rows.dense().numpy(), matrix)
    assert np.array_equal(rows.counts().numpy(), (matrix != 0).sum(0))
    chosen = np.random.default_rng(seed).integers(0, count, 5)
    assert np.array_equal(rows.take(torch.from_numpy(chosen)).dense().numpy(), matrix[chosen])
    inside, places = rows.within(1, 3)
    expected = np.argwhere(matrix[:, 1:3])
    assert np.array_equal(torch.stack([inside, places], 1).numpy(), expected)


def long(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"values": None}, None),
        ({"begins": long(1, 2, 3)}, "begins must be (n + 1,) int64 that starts with 0"),
        ({"begins": torch.tensor([0.0, 2, 3])}, "begins must be (n + 1,) int64 that starts with 0"),
        ({"begins": long(0, 3, 2)}, "begins must ascend to the number of columns"),
        ({"begins": long(0, 2, 2)}, "begins must ascend to the number of columns"),
        (
            {"columns": torch.tensor([0, 2, 1], dtype=torch.int32)},
            "columns must be (entries,) int64",
        ),
        ({"columns": long(0, 3, 1)}, "columns must be in [0, 3)"),
        ({"columns": long(0, -1, 1)}, "columns must be in [0, 3)"),
        ({"columns": long(2, 0, 1)}, "columns must ascend within a row, each once"),
        ({"columns": long(1, 1, 1)}, "columns must ascend within a row, each once"),
        ({"values": torch.ones(2)}, "values must be (entries,) float32"),
        ({"values": torch.ones(3).double()}, "values must be (entries,) float32"),
        ({"values": torch.tensor([1, np.nan, 1])}, "values must be finite"),
    ],
)
def test_what_is_no_matrix_is_said(change, said):
    right = Rows(long(0, 2, 3), long(0, 2, 1), torch.ones(3), 3)
    assert dataclasses.replace(right, **change).fault() == said


def test_no_rows_and_empty_rows_are_rows():
    rows = rows_of([[0, 0], [0, 3.0]])
    assert rows.take(torch.tensor([], dtype=torch.int64)).dense().shape == (0, 2)
    assert rows.take(torch.tensor([0, 0])).dense().tolist() == [[0, 0], [0, 0]]


def test_normalised_rows_have_length_one():
    rows = rows_of([[3.0, 4], [0, 0], [0, 2]]).normalised()
    assert rows.dense().tolist() == pytest.approx(np.array([[0.6, 0.8], [0, 0], [0, 1]]), rel=1e-6)
    labels = Rows(rows.begins, rows.columns, None, 2)
    assert labels.dense().tolist() == [[1, 1], [0, 0], [0, 1]]
    with pytest.raises(InputError, match="values=None"):
        labels.normalised()
