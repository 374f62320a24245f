"""Effective rank, against matrices whose singular values are known."""

from __future__ import annotations

import pytest
import torch

from sparse_core.metrics import effective_rank


@pytest.mark.parametrize(
    ("singular", "rank"),
    [
        ([1.0, 1.0, 1.0, 1.0], 4),
        ([99.0, 1.0, 0.0, 0.0], 1),
        ([98.0, 2.0, 0.0, 0.0], 2),
        ([50.0, 49.0, 0.5, 0.5], 2),
        ([0.0, 0.0, 0.0, 0.0], 0),
    ],
)
def test_it_counts_what_carries_all_but_one_percent(singular, rank):
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(6, 4, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))
    assert effective_rank(left @ torch.diag(torch.tensor(singular).double()) @ right) == rank


def test_the_threshold_can_be_chosen():
    features = torch.diag(torch.tensor([5.0, 3.0, 2.0]))
    assert [effective_rank(features, delta) for delta in (0.6, 0.5, 0.2, 0.1)] == [1, 1, 2, 3]
