"""Edge-popup and WSN: masks by learnt scores, by hand."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.updaters.scene import Moment, Scene
from sparse_core.updaters.scores import importance


def made(method, sparsity=0.5, **changes):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    config = SparseConfig(method=method, sparsity=sparsity, distribution="uniform", **changes)
    return net, sparsify(net, config)


def scores_of(layer):
    return layer.get_parameter("weight_scores")


def chosen_by_hand(scores, budget):
    ranked = scores.detach().abs().flatten().argsort(descending=True)[:budget]
    mask = torch.zeros(scores.numel())
    mask[ranked] = 1
    return mask.reshape(scores.shape)


@pytest.mark.parametrize("method", ["edge_popup", "wsn"])
def test_the_mask_is_that_of_the_highest_scores_after_every_step(method):
    net, engine = made(method)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    engine.attach(optimizer)
    x, masks = torch.randn(16, 4), []
    for _ in range(6):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
        for tensor in engine.tensors:
            assert tensor.count() == tensor.budget
            assert torch.equal(tensor.mask, chosen_by_hand(scores_of(tensor.layer), tensor.budget))
        masks.append(net[0].weight_mask.clone())
    assert not torch.equal(masks[0], masks[-1])


@pytest.mark.parametrize("method", ["edge_popup", "wsn"])
def test_the_gradient_of_scores_goes_straight_through(method):
    net, _ = made(method)
    x = torch.randn(5, 4)
    net[0](x).sum().backward()
    layer = net[0]
    of_masked = x.sum(0).expand(6, 4)  # dL/d(w * mask)
    expected = of_masked * layer.weight.detach() * scores_of(layer).detach().sign()
    torch.testing.assert_close(scores_of(layer).grad, expected)
    if method == "wsn":
        torch.testing.assert_close(layer.weight.grad, of_masked * layer.weight_mask)
    else:
        assert layer.weight.grad is None


def test_edge_popup_keeps_its_weights_signed_constants():
    net, engine = made("edge_popup")
    size = math.sqrt(2 * 6 / 12)  # 12 of 24 weights in 6 rows
    assert torch.allclose(net[0].weight.detach().abs(), torch.tensor(size))
    before = copy.deepcopy(net[0].weight)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    engine.attach(optimizer)
    net(torch.randn(8, 4)).square().sum().backward()
    optimizer.step()
    assert torch.equal(before, net[0].weight)


def test_edge_popup_keeps_the_signs_that_the_weights_had():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        net[0].weight[:3].abs_()
        net[0].weight[3:].abs_().neg_()
    sparsify(net, SparseConfig(method="edge_popup", sparsity=0.5, initialisation="keep"))
    assert bool((net[0].weight[:3] > 0).all()) and bool((net[0].weight[3:] < 0).all())


def test_scores_begin_uniform_in_one_over_the_root_of_the_fan_in():
    net = nn.Sequential(nn.Linear(25, 400), nn.ReLU(), nn.Linear(400, 2))
    sparsify(net, SparseConfig(method="wsn", sparsity=0.5))
    scores = scores_of(net[0]).detach()
    assert -0.2 <= float(scores.min()) < -0.19 and 0.19 < float(scores.max()) <= 0.2
    assert float(scores.mean()) == pytest.approx(0, abs=0.01)  # 8 standard errors


def test_each_draw_has_scores_of_its_own():
    net, engine = made("wsn")
    drawn = []
    for index in (0, 1, 0):
        engine.redraw(index)
        drawn.append(scores_of(net[0]).detach().clone())
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_wsn_keeps_what_lies_outside_the_mask():
    net, engine = made("wsn")
    before = net[0].weight.detach().clone()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    engine.attach(optimizer)
    outside = net[0].weight_mask == 0
    net(torch.randn(8, 4)).square().sum().backward()
    optimizer.step()
    after = net[0].weight.detach()
    assert torch.equal(before[outside], after[outside]) and bool(before[outside].all())
    assert not torch.equal(before[~outside], after[~outside])


def test_scores_travel_with_the_state_dict():
    net, _ = made("wsn", seed=1)
    other, _ = made("wsn", seed=2)
    x = torch.randn(3, 4)
    assert not torch.equal(net(x), other(x))
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(x), other(x))


def test_a_target_network_cannot_follow():
    _, engine = made("edge_popup")
    with pytest.raises(ValueError, match="method='edge_popup': no target can follow its scores"):
        engine.follow(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)))


def test_importance_by_hand():
    _, engine = made("set", drop="sensitivity", growth="importance", dense=("2.weight",))
    tensor = engine.tensors[0]
    tensor.start(torch.tensor([[1, 1, 0, 0]] + [[0, 0, 0, 1]] + [[0, 0, 0, 0]] * 4).bool())
    tensor.write(torch.tensor([[2.0, -3, 9, 9]] + [[9, 9, 9, 1]] + [[9.0] * 4] * 4))
    tensor.tap.value = torch.ones(6, 4)
    tensor.tap.value[0, 0] = -4
    found = importance(Scene(tensor, Moment(1, 0, 0.3), tensor.active()))
    expected = torch.zeros(6, 4)  # rows 8 + 3 and 1; columns 8, 3, 0, 1
    expected[0] = 11 * torch.tensor([8.0, 3, 0, 1])
    expected[1] = torch.tensor([8.0, 3, 0, 1])
    assert torch.equal(found, expected)
