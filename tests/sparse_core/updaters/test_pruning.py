import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.budgets.saliency import grasp, magnitudes, snip
from sparse_core.tickets import LotteryTicket
from tests.sparse_core.networks import batch, built, mlp, train


@pytest.mark.parametrize("method", ["gmp", "granet", "one_shot"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_pruning_ends_at_the_budget_exactly(method, scope):
    net, optimizer, engine = built(
        dict(method=method, sparsity=0.9, scope=scope, update_every=7, horizon=60, prune_from=0.2)
    )
    total = sum(layer.total for layer in engine.layers())
    train(net, optimizer, range(11))
    assert sum(layer.active for layer in engine.layers()) == total
    train(net, optimizer, range(11, 60))
    assert sum(layer.active for layer in engine.layers()) == round(0.1 * total)
    assert engine.sparsity == pytest.approx(0.9, abs=1 / total)


def test_gradual_pruning_never_grows_and_follows_the_cubic():
    net, optimizer, engine = built(
        dict(method="gmp", sparsity=0.9, distribution="uniform", update_every=5, horizon=40)
    )
    tensor, counts, masks = engine.tensors[1], [], []
    engine.observers.append(
        lambda *_: (counts.append(tensor.count()), masks.append(tensor.active()))
    )
    train(net, optimizer, range(40))
    progress = [min(1, max(0, t - 1) / 29) for t in (5, 10, 15, 20, 25, 30)]
    n, budget = 256, tensor.budget
    assert counts == [budget + round((n - budget) * (1 - p) ** 3) for p in progress]
    assert all(not bool((b & ~a).any()) for a, b in pairwise(masks))


def test_pruning_can_start_sparse():
    _, _, engine = built(dict(method="granet", sparsity=0.9, initial_sparsity=0.5, horizon=40))
    total = sum(layer.total for layer in engine.layers())
    assert sum(layer.active for layer in engine.layers()) == total // 2


def test_pruning_without_a_horizon_is_an_error_on_the_first_step():
    net, optimizer, _ = built(dict(method="gmp"))
    with pytest.raises(RuntimeError, match="method='gmp': its schedule needs the length"):
        train(net, optimizer, range(1))


def loss_of(net):
    x, y = batch(0, 12)
    return lambda: nn.functional.mse_loss(net(x)[:, 0], y)


def test_snip_by_hand():
    net = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[2.0, -3.0]]))
    x = torch.tensor([[1.0, 4.0]])
    # L = (w x)^2 / 2 = 50, dL/dw = (w x) x = -10 * (1, 4).
    scores = snip(net, lambda: net(x).pow(2).sum() / 2)
    assert scores["0.weight"].tolist() == [[20.0, 120.0]]


def test_grasp_by_hand():
    net = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[2.0, -3.0]]))
    x = torch.tensor([[1.0, 4.0]])
    # H = x x^T, g = -10 (1, 4): H g = (x . g) x = -170 (1, 4); w * H g = (-340, 2040).
    scores = grasp(net, lambda: net(x).pow(2).sum() / 2)
    torch.testing.assert_close(scores["0.weight"], torch.tensor([[-340.0, 2040.0]]))


@pytest.mark.parametrize("score", [snip, grasp])
def test_saliency_masks_keep_the_highest_of_the_network(score):
    torch.manual_seed(0)
    net = mlp(12, 16, 16, 4)
    scores = score(net, loss_of(net))
    config = SparseConfig(method="static", sparsity=0.9, scope="global", initialisation="keep")
    engine = sparsify(net, config, scores=scores)
    total = sum(layer.total for layer in engine.layers())
    assert sum(layer.active for layer in engine.layers()) == round(0.1 * total)
    kept = torch.cat([scores[t.name][t.active()] for t in engine.tensors])
    left = torch.cat([scores[t.name][~t.active()] for t in engine.tensors])
    assert kept.sort().values[len(engine.tensors) :].min() >= left.sort().values[-1]


def test_saliency_of_an_unused_layer_is_an_error():
    net = mlp(12, 16, 4)
    with pytest.raises(RuntimeError, match=r"layer '2.weight' plays no part in the loss"):
        snip(net, lambda: net[0](torch.ones(1, 12)).sum())


def test_first_masks_by_magnitude():
    torch.manual_seed(0)
    net = mlp(12, 16, 4)
    scores = magnitudes(net)
    engine = sparsify(net, SparseConfig(method="rigl", sparsity=0.5), scores=scores)
    for tensor in engine.tensors:
        weights = scores[tensor.name]
        assert weights[tensor.active()].min() >= weights[~tensor.active()].max()


def test_missing_scores_are_named():
    with pytest.raises(ValueError, match=r"scores: need one for '0.weight' of shape \(16, 12\)"):
        sparsify(mlp(12, 16, 4), scores={"2.weight": torch.zeros(4, 16)})


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("rewind_step", [0, 3])
def test_a_lottery_ticket_rewinds_and_ends_at_the_sparsity(scope, rewind_step):
    torch.manual_seed(0)
    net = mlp(12, 16, 16, 4)
    start = copy.deepcopy(net)
    config = SparseConfig(method="static", sparsity=0.875, scope=scope)
    total, counts, early = 12 * 16 + 16 * 16 + 16 * 4, [], None
    for index, engine in enumerate(LotteryTicket(net, config, rounds=3, rewind_step=rewind_step)):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        engine.attach(optimizer)
        counts.append(sum(layer.active for layer in engine.layers()))
        if index:
            for tensor in engine.tensors:
                mask = tensor.active()
                values = early[tensor.name].reshape(mask.shape)
                assert torch.equal(tensor.values(), values * mask)
            train(net, optimizer, range(10))
        else:
            early = dict(start.named_parameters())
            train(net, optimizer, range(rewind_step))
            if rewind_step:
                early = {k: v.detach().clone() for k, v in net.named_parameters()}
            train(net, optimizer, range(rewind_step, 10))
    assert counts == [total, total // 2, total // 4, total // 8]


def test_a_lottery_ticket_is_static():
    with pytest.raises(ValueError, match="a lottery ticket is static"):
        LotteryTicket(mlp(2, 2), SparseConfig(method="set"), rounds=2)
    with pytest.raises(ValueError, match="rounds=0"):
        LotteryTicket(mlp(2, 2), SparseConfig(method="static"), rounds=0)
