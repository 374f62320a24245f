"""Mean magnitudes against torch's, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparse_core.budgets.patterns import ConstantFanIn
from sparse_core.kernels import Pattern, magnitudes


@pytest.mark.parametrize(("group", "rows"), [(1, 7), (4, 8), (4, 7), (8, 3)])
def test_they_are_those_of_cells_to_the_bit(group, rows):
    torch.manual_seed(rows)
    matrix = torch.randn(rows, 19)
    cells = ConstantFanIn(group).cells(matrix.abs())
    assert np.array_equal(magnitudes.of_matrix(matrix.numpy(), group), cells.numpy())
    mask = torch.rand(len(cells), 19) < 0.4
    pattern = Pattern.from_mask(mask.repeat_interleave(group, 0)[:rows].numpy(), group)
    values = pattern.condense(matrix.numpy())
    assert np.array_equal(magnitudes.of_slots(pattern, values), cells[mask].numpy())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_none(bad):
    matrix = np.ones((5, 3), np.float32)
    pattern = Pattern.from_mask(matrix != 0, 4)
    matrix[4, 1] = bad
    assert magnitudes.of_matrix(matrix, 4) is None
    assert magnitudes.of_slots(pattern, pattern.condense(matrix)) is None
