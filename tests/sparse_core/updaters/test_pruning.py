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
    config = SparseConfig(
        method="ticket", sparsity=0.875, scope=scope, distribution="uniform", rounds=3,
        rewind_step=rewind_step,
    )  # fmt: skip
    total, counts, early = 12 * 16 + 16 * 16 + 16 * 4, [], None
    for index, engine in enumerate(LotteryTicket(net, config)):
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


def test_a_round_prunes_the_smallest_of_what_is_left():
    net = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    config = SparseConfig(method="ticket", sparsity=0.75, rounds=2)
    rounds = iter(LotteryTicket(net, config))
    engine = next(rounds)
    assert engine.tensors[0].active().all()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[9.0, 0.1, 7.0, 0.2]]))
    next(rounds)
    assert net.weight.tolist() == [[1.0, 0.0, 3.0, 0.0]]
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.5, 0.0, 7.0, 0.0]]))
    next(rounds)
    assert net.weight.tolist() == [[0.0, 0.0, 3.0, 0.0]] and next(rounds, None) is None


def test_layers_end_with_what_the_distribution_gives_them():
    config = SparseConfig(method="ticket", sparsity=0.8, distribution="erk", rounds=2)
    for engine in LotteryTicket(mlp(12, 16, 16, 4), config):
        train(engine.root, torch.optim.SGD(engine.root.parameters(), lr=0.01), range(1))
    assert [t.count() for t in engine.tensors] == [t.budget for t in engine.tensors]
    assert engine.sparsity == pytest.approx(0.8, abs=1 / 512)


@pytest.mark.parametrize("initialisation", ["keep", "kaiming"])
def test_the_control_to_a_ticket_has_its_masks_and_new_weights(initialisation):
    def fresh(seed):
        torch.manual_seed(seed)
        return mlp(12, 16, 4)

    def begun(method):
        config = SparseConfig(method=method, sparsity=0.75, rounds=2, initialisation=initialisation)
        weights = []
        for engine in LotteryTicket(fresh(0), config, lambda: fresh(1)):
            weights.append({n: p.detach().clone() for n, p in engine.root.named_parameters()})
            masks = {tensor.name: tensor.active() for tensor in engine.tensors}
            train(engine.root, torch.optim.SGD(engine.root.parameters(), lr=0.05), range(10))
        return weights, masks

    (first, *rounds, rewound), masks = begun("ticket")
    (same, *others, drawn), found = begun("ticket_reinit")
    assert same.keys() == first.keys() and all(torch.equal(same[n], first[n]) for n in first)
    assert all(torch.equal(others[0][n], rounds[0][n]) for n in first)
    assert found.keys() == masks.keys() and all(torch.equal(found[n], masks[n]) for n in masks)
    assert all(torch.equal(rewound[n], first[n] * masks.get(n, 1)) for n in first)
    new = dict(fresh(1).named_parameters())
    for name, values in drawn.items():
        assert not torch.equal(values, rewound[name])
        if name not in masks or initialisation == "keep":
            assert torch.equal(values, new[name] * masks.get(name, 1))
        else:
            assert torch.equal(values != 0, masks[name])


def test_the_control_to_a_ticket_needs_new_weights():
    with pytest.raises(ValueError, match="anew=None: must build a module with other weights"):
        LotteryTicket(mlp(2, 2), SparseConfig(method="ticket_reinit"))


def test_a_lottery_ticket_needs_its_method():
    with pytest.raises(ValueError, match="method='set': a lottery ticket needs method 'ticket'"):
        LotteryTicket(mlp(2, 2), SparseConfig(method="set"))
    with pytest.raises(ValueError, match="rounds=0: must be an integer of at least 1"):
        SparseConfig(method="ticket", rounds=0)
    with pytest.raises(ValueError, match="method 'ticket' needs unstructured"):
        SparseConfig(method="ticket", structure="constant_fan_in")
