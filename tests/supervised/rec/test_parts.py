"""Metrics, negative items, the graph and the first mask, against tables made by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.checks import InputError
from supervised.data.interactions import matrix
from supervised.data.rows import Rows
from supervised.rec.graph import Graph
from supervised.rec.losses import bce, bpr
from supervised.rec.metrics import ndcg, recall
from supervised.rec.models import Factors
from supervised.rec.nmf import nmf_scores
from supervised.rec.popularity import by_popularity
from supervised.rec.predict import best_items
from supervised.rec.sampling import Negatives
from tests.supervised.rec.tastes import GROUPS, ITEMS, USERS, likes


def rows(lists, width) -> Rows:
    owners = torch.tensor([i for i, row in enumerate(lists) for _ in row], dtype=torch.int64)
    columns = torch.tensor([c for row in lists for c in row], dtype=torch.int64)
    return matrix(owners, columns, len(lists), width)


BEST = torch.tensor([[3, 0, 2], [1, 4, 0]])


def log(rank):
    return 1 / math.log2(rank + 1)


@pytest.mark.parametrize(
    ("right", "k", "recalled", "gained"),
    [
        ([[3], [1]], 1, 1.0, 1.0),
        ([[0], [2]], 3, 0.5, log(2) / 2),
        ([[2, 3], [0, 1, 2, 4]], 3, (1 + 3 / 4) / 2, ((1 + log(3)) / (1 + log(2)) + 1) / 2),
        ([[2, 3], [0, 1, 2, 4]], 2, (1 / 2 + 2 / 4) / 2, (1 / (1 + log(2)) + 1) / 2),
    ],
)
def test_metrics_by_hand(right, k, recalled, gained):
    assert recall(BEST, rows(right, 5), k) == pytest.approx(recalled)
    assert ndcg(BEST, rows(right, 5), k) == pytest.approx(gained)


@pytest.mark.parametrize(
    ("right", "k", "said"),
    [
        ([[3], [1]], 4, "k=4: must be at most 3, the recommendations"),
        ([[3]], 1, "best: has 2 rows, there are 1 users"),
        ([[3], []], 1, "right: there must be users, each with an item to be found"),
    ],
)
def test_metrics_refuse_what_has_no_value(right, k, said):
    for metric in (recall, ndcg):
        with pytest.raises(InputError, match=said):
            metric(BEST, rows(right, 5), k)


def test_known_items_are_never_recommended():
    model, seen = Factors(likes(), 4), likes()
    for chunk in (1, 5, 100):
        best = best_items(model, torch.arange(USERS), seen, 7, chunk=chunk)
        scores = model.prepare()[:USERS] @ model.prepare()[USERS:].T
        scores[seen.owners, seen.columns] = -math.inf
        assert torch.equal(best, scores.topk(7, 1)[1])
    with pytest.raises(InputError, match="k=31: must be at most 30, the items"):
        best_items(model, torch.arange(2), seen, 31)
    assert best_items(model, torch.arange(0), seen, 3).shape == (0, 3)


@given(st.lists(st.sets(st.integers(0, 8), max_size=8), min_size=1, max_size=6))
def test_every_unseen_item_has_its_number(lists):
    likes = rows([sorted(row) for row in lists], 9)
    sampler = Negatives(likes)
    for user, row in enumerate(lists):
        unseen = sorted(set(range(9)) - row)
        users = torch.full((len(unseen),), user)
        assert sampler.unseen_item(users, torch.arange(len(unseen))).tolist() == unseen


def test_draws_are_uniform_over_unseen_items():
    sampler = Negatives(rows([[0, 2, 3], [1]], 5))
    users = torch.tensor([0, 1])[:, None].expand(-1, 4000)
    drawn = sampler.draw(users, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 4000)
    for row, unseen in zip(drawn, ([1, 4], [0, 2, 3, 4]), strict=True):
        counts = torch.bincount(row, minlength=5)
        assert counts.nonzero()[:, 0].tolist() == unseen
        assert (counts[unseen] / 4000 - 1 / len(unseen)).abs().max() < 0.05
    with pytest.raises(InputError, match="user 1 has all 2 items"):
        Negatives(rows([[0], [0, 1]], 2))


def test_losses_by_hand():
    liked, negative = torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    wanted = [math.log1p(math.exp(-x)) for x in (1.0, -1.0, 0.0, 0.0)]
    assert float(bpr(liked, negative)) == pytest.approx(sum(wanted) / 4)
    one = math.log1p(math.exp(-1)) + math.log(2)
    other = 3 * math.log(2) + math.log1p(math.exp(2))
    assert float(bce(liked, negative)) == pytest.approx((one + other) / 6)


def test_the_graph_is_the_normalised_adjacency_and_its_own_gradient():
    likes = rows([[0, 1], [1], []], 3)
    graph = Graph(likes)
    dense = torch.zeros(6, 6)
    for user, item, weight in ((0, 0, 2), (0, 1, 4), (1, 1, 2)):  # degrees multiplied
        dense[user, 3 + item] = dense[3 + item, user] = weight**-0.5
    vectors = torch.randn(6, 5, requires_grad=True)
    found = graph @ vectors
    torch.testing.assert_close(found, dense @ vectors)
    weights = torch.randn(6, 5)
    (gradient,) = torch.autograd.grad((found * weights).sum(), vectors)
    torch.testing.assert_close(gradient, dense @ weights)
    assert not found[2].any() and not found[5].any()


def test_the_first_mask_tells_tastes_apart():
    """Users and items of a group share their strongest factors, those of others do not."""
    scores = nmf_scores(likes(), GROUPS, seed=0, rounds=60)
    assert scores.shape == (USERS + ITEMS, GROUPS) and bool((scores >= 0).all())
    strongest = scores.argmax(1)
    for part, count in ((strongest[:USERS], USERS), (strongest[USERS:], ITEMS)):
        groups = [set(part[torch.arange(g, count, GROUPS)].tolist()) for g in range(GROUPS)]
        assert all(len(group) == 1 for group in groups) and len(set.union(*groups)) == GROUPS


def test_popularity_is_binned_by_powers_of_two():
    found = by_popularity(torch.tensor([4, 2, 6, 8]), torch.tensor([0, 1, 2, 7]))
    assert found == [[0.0, 4.0], [1.0, 2.0], [2.0, 6.0], [7.0, 8.0]]
    assert by_popularity(torch.tensor([4, 8]), torch.tensor([2, 3])) == [[2.5, 6.0]]
