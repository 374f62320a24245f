"""Exact selection: the highest scores of each lane and, among equal ones, the first."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.budgets.ranking import top_of_layer, top_per_lane

NONE = float("-inf")
SCORES = st.sampled_from([NONE, -3.0, -0.0, 0.0, 1.0, 1.5, 2.0, torch.finfo(torch.float32).min])


def by_hand(scores, counts):
    picked = torch.zeros(scores.shape, dtype=torch.bool)
    for lane, count in enumerate(counts.tolist()):
        order = sorted(range(scores.shape[1]), key=lambda i: (-float(scores[lane, i]), i))
        for i in order[: max(count, 0)]:
            picked[lane, i] = bool(scores[lane, i] > NONE)
    return picked


@given(
    st.integers(1, 4).flatmap(
        lambda lanes: st.tuples(
            st.lists(st.lists(SCORES, min_size=6, max_size=6), min_size=lanes, max_size=lanes),
            st.lists(st.integers(-1, 8), min_size=lanes, max_size=lanes),
        )
    ),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_it_selects_what_a_sort_does(drawn, dtype):
    scores, counts = torch.tensor(drawn[0]).to(dtype), torch.tensor(drawn[1])
    assert torch.equal(top_per_lane(scores, counts), by_hand(scores, counts))


@pytest.mark.parametrize("lanes", [1, 3])
def test_many_scores_without_ties(lanes):
    scores = torch.randn(lanes, 5000, generator=torch.Generator().manual_seed(0))
    counts = torch.tensor([0, 17, 4999][-lanes:])
    assert torch.equal(top_per_lane(scores, counts), by_hand(scores, counts))


def test_a_layer_is_one_lane():
    scores = torch.tensor([[1.0, 5.0, 2.0], [5.0, 4.0, 5.0]])
    among = torch.tensor([[True, False, True], [True, True, True]])
    expected = torch.tensor([[False, False, False], [True, True, True]])
    assert torch.equal(top_of_layer(scores, among, 3), expected)
    assert not bool(top_of_layer(scores, among, 0).any())
    assert torch.equal(top_of_layer(scores, among, 9), among)
