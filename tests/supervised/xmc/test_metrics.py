"""P@k, nDCG@k and PSP@k: a table worked by hand, and definitions written out in Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.checks import InputError
from supervised.xmc.metrics import ndcg, precision, propensities, propensity_precision
from tests.supervised.data.test_rows import rows_of

BEST = torch.tensor([[2, 0, 1], [1, 3, 0]])
LABELS = rows_of([[0, 1.0, 1, 0], [0, 0, 0, 1]])
PROPENSITY = torch.tensor([0.5, 0.25, 0.5, 0.2], dtype=torch.float64)
LOG3 = math.log2(3)


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        # The first sample: right, wrong, right of labels 1, 2. The second: wrong, right of label 3.
        (precision, 1, (1 + 0) / 2),
        (precision, 2, (1 / 2 + 1 / 2) / 2),
        (precision, 3, (2 / 3 + 1 / 3) / 2),
        # Ranks 1, 2, 3 count 1, 1 / log2(3), 1 / 2.
        (ndcg, 1, (1 / 1 + 0) / 2),
        (ndcg, 2, (1 / (1 + 1 / LOG3) + (1 / LOG3) / 1) / 2),
        (ndcg, 3, (1.5 / (1 + 1 / LOG3) + (1 / LOG3) / 1) / 2),
        # Labels count 2, 4, 2, 5. Possible at 1: 4 + 5; at 2 and 3: 4 + 2 + 5.
        (propensity_precision, 1, 2 / 9),
        (propensity_precision, 2, (2 + 5) / 11),
        (propensity_precision, 3, (2 + 4 + 5) / 11),
    ],
)
def test_the_table(metric, k, expected):
    more = (PROPENSITY,) if metric is propensity_precision else ()
    assert metric(BEST, LABELS, k, *more) == pytest.approx(expected, rel=1e-12)


def test_propensities_by_hand():
    found = propensities(torch.tensor([0, 1, 3]), 3, a=1, b=1)
    rarity = (1.0986122887 - 1) * 2
    assert found.tolist() == pytest.approx(
        [1 / (1 + rarity), 1 / (1 + rarity / 2), 1 / (1 + rarity / 4)], rel=1e-9
    )
    with pytest.raises(InputError, match="samples=2: must be an integer of at least 3"):
        propensities(torch.tensor([1]), 2)


def test_samples_without_labels_count_as_zero():
    labels = rows_of([[0, 1.0, 1, 0], [0, 0, 0, 0]])
    assert precision(BEST, labels, 3) == pytest.approx(1 / 3)
    assert ndcg(BEST, labels, 1) == 0.5
    nobody = rows_of([[0.0, 0, 0, 0]] * 2)
    assert ndcg(BEST, nobody, 3) == propensity_precision(BEST, nobody, 3, PROPENSITY) == 0


def test_wrong_input_is_named():
    for metric in (precision, ndcg):
        with pytest.raises(InputError, match="k=4: must be at most 3, the predictions"):
            metric(BEST, LABELS, 4)
    with pytest.raises(InputError, match="k=0: must be an integer of at least 1"):
        propensity_precision(BEST, LABELS, 0, PROPENSITY)
    with pytest.raises(InputError, match="best: has 1 rows, there are 2 samples"):
        precision(BEST[:1], LABELS, 1)


@given(st.integers(0, 999), st.integers(1, 6))
def test_metrics_are_their_definitions(seed, k):
    rng = np.random.default_rng(seed)
    right = rng.random((8, 6)) < 0.4
    best = np.stack([rng.permutation(6) for _ in range(8)])
    worth = 1 / (weights := rng.uniform(0.1, 1, 6))
    gains, ideals, hits, discounted = 0.0, 0.0, [], []
    for row in range(8):
        hit = [bool(right[row, label]) for label in best[row, :k]]
        hits.append(sum(hit) / k)
        ideal = sum(1 / math.log2(i + 2) for i in range(min(k, right[row].sum())))
        gained = sum(h / math.log2(i + 2) for i, h in enumerate(hit))
        discounted.append(gained / ideal if ideal else 0.0)
        gains += sum(worth[label] for label, h in zip(best[row], hit, strict=False) if h)
        ideals += sum(sorted(worth[right[row]], reverse=True)[:k])
    labels, found = rows_of(right), torch.from_numpy(best)
    assert precision(found, labels, k) == pytest.approx(np.mean(hits))
    assert ndcg(found, labels, k) == pytest.approx(np.mean(discounted))
    expected = gains / ideals if ideals else 0.0
    scored = propensity_precision(found, labels, k, torch.from_numpy(weights))
    assert scored == pytest.approx(expected)
