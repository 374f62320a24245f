"""Models against dense torch, both backends against each other, and runs taken up again."""

import copy

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig
from sparse_core.layers.embedding import CondensedEmbedding
from supervised.rec.build import loss_of, make_model, make_optimizer, recommender
from supervised.rec.losses import bpr
from supervised.rec.models import Factors, LightGCN, NeuMF
from supervised.rec.spec import RecSpec
from supervised.rec.training import Batches, step
from tests.supervised.rec.tastes import ITEMS, USERS, likes

USER, LIKED = torch.tensor([0, 3, 3]), torch.tensor([0, 4, 2])
NEGATIVE = torch.tensor([[1, 2], [0, 5], [7, 7]])


def averaged(table, layers):
    """LightGCN's vectors by a dense matrix of the graph."""
    graph = torch.zeros(USERS + ITEMS, USERS + ITEMS)
    graph[:USERS, USERS:] = likes().dense()
    graph = graph + graph.T
    scale = graph.sum(1).clamp(min=1).rsqrt()
    graph = scale[:, None] * graph * scale
    every = [table]
    for _ in range(layers):
        every.append(graph @ every[-1])
    return torch.stack(every).mean(0)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_scores_and_gradients_are_those_of_dense_torch(layers):
    torch.manual_seed(0)
    model = LightGCN(likes(), 4, layers) if layers else Factors(likes(), 4)
    table = model.table.weight.detach().clone().requires_grad_()
    vectors = averaged(table, layers)
    scored = model.scores(USER, LIKED, NEGATIVE)
    liked = (vectors[USER] * vectors[USERS + LIKED]).sum(1)
    negative = torch.einsum("nd,nkd->nk", vectors[USER], vectors[USERS + NEGATIVE])
    rows = torch.cat([USER, USERS + LIKED, USERS + NEGATIVE.flatten()])
    penalty = table[rows].square().sum() / 6
    for found, wanted in zip(
        (scored.liked, scored.negative, scored.penalty), (liked, negative, penalty), strict=True
    ):
        torch.testing.assert_close(found, wanted)
    (bpr(scored.liked, scored.negative) + 0.1 * scored.penalty).backward()
    (bpr(liked, negative) + 0.1 * penalty).backward()
    torch.testing.assert_close(model.table.weight.grad, table.grad)
    with torch.no_grad():
        found = model.all_scores(torch.tensor([2, 5]), model.prepare())
        torch.testing.assert_close(found, vectors[[2, 5]] @ vectors[USERS:].T)


def test_neumf_scores_a_pair_alike_in_training_and_in_the_whole():
    torch.manual_seed(0)
    model = NeuMF(likes(), 4, (6, 3))
    assert [type(m) for m in model.tower] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU]
    scored = model.scores(USER, LIKED, NEGATIVE)
    with torch.no_grad():
        every = model.all_scores(USER, model.prepare())
    torch.testing.assert_close(scored.liked, every.gather(1, LIKED[:, None])[:, 0])
    torch.testing.assert_close(scored.negative, every.gather(1, NEGATIVE))
    user, item = model.table.weight[3], model.table.weight[USERS + 2]
    pair = torch.cat([model.tower_table.weight[3], model.tower_table.weight[USERS + 2]])
    by_hand = model.output(torch.cat([user * item, model.tower(pair)]))
    torch.testing.assert_close(scored.liked[2:], by_hand)
    squares = sum(
        t.weight[torch.cat([USER, USERS + LIKED, USERS + NEGATIVE.flatten()])].square().sum()
        for t in (model.table, model.tower_table)
    )
    torch.testing.assert_close(scored.penalty, squares / 6)


def made(model="mf", backend="condensed", method="rigl", **options):
    """A run's parts; of NeuMF the tables are sparse, its layers dense."""
    moving = {} if method == "static" else {"update_every": 4, "horizon": 40}
    sparse = SparseConfig(
        method=method,
        sparsity=0.5,
        distribution="uniform",
        backend=backend,
        dense=("tower.*", "output") if model == "neumf" else (),
        **moving,
    )
    spec = RecSpec(model=model, size=8, lr=0.05, batch_size=50, sparse=sparse, **options)
    torch.manual_seed(0)
    net, engine = make_model(spec, likes())
    optimizer = make_optimizer(spec, net.parameters())
    engine.attach(optimizer)
    engine.set_horizon(100)
    return spec, net, engine, optimizer


def train(spec, net, optimizer, epochs):
    batches = Batches(likes(), spec.batch_size, spec.negatives, spec.seed)
    loss = loss_of(spec)
    net.train()
    return [
        [
            step(recommender(net), optimizer, loss, batch, spec.penalty)
            for batch in batches.of(epoch)
        ]
        for epoch in epochs
    ]


@pytest.mark.parametrize("model", ["mf", "lightgcn", "neumf"])
@pytest.mark.parametrize("method", ["static", "set", "rigl", "srigl"])
def test_masked_and_condensed_tables_train_alike(model, method):
    found = []
    for backend in ("masked", "condensed"):
        spec, net, engine, optimizer = made(model, backend, method, negatives=2)
        losses = train(spec, net, optimizer, range(1, 3))
        found.append((losses, [t.active() for t in engine.tensors], engine.updates))
    assert type(net.table) is CondensedEmbedding
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-3, atol=1e-4)
    assert found[0][2] == found[1][2] == (0 if method == "static" else 1)
    assert all(torch.equal(*pair) for pair in zip(found[0][1], found[1][1], strict=True))


@pytest.mark.parametrize("model", ["mf", "lightgcn"])
def test_a_run_goes_on_as_if_it_had_not_stopped(model):
    spec, net, engine, optimizer = made(model)
    train(spec, net, optimizer, range(1, 3))
    kept = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    wanted = train(spec, net, optimizer, range(3, 6))
    spec, twin, other, trainer = made(model)
    twin.load_state_dict(kept[0])
    trainer.load_state_dict(kept[1])
    assert train(spec, twin, trainer, range(3, 6)) == wanted
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))
    assert engine.updates == other.updates > 2


def test_the_first_mask_may_come_from_the_pairs():
    _, net, engine, _ = made(start="nmf")
    _, other, _, _ = made()
    assert engine.tensors[0].count() == (USERS + ITEMS) * 4
    assert not torch.equal(net.table.mask(), other.table.mask())


def test_growth_in_sampled_rows_leaves_the_others():
    sparse = SparseConfig(
        method="rigl",
        sparsity=0.5,
        distribution="uniform",
        update_every=1,
        growth="supervised.rec.growth:sampled_rows",
        backend="condensed",
    )
    spec = RecSpec(size=8, batch_size=500, lr=0.05, sparse=sparse)
    net, engine = make_model(spec, likes())
    optimizer = make_optimizer(spec, net.parameters())
    engine.attach(optimizer)
    before = engine.tensors[0].active()
    train(spec, net, optimizer, range(1, 2))
    grown = (engine.tensors[0].active() & ~before).any(1)
    assert engine.updates == 1 and 0 < int(grown.sum()) < 0.8 * len(grown)
    assert engine.tensors[0].count() == (USERS + ITEMS) * 4
