"""RNM: N:M masks by magnitude, weights that wait with the values they had, mask divergence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.metrics.changes import TopologyMeter, overall


def layer(weight, **fields):
    net = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([weight]))
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    config = SparseConfig(method="rnm", structure="2:4", sparsity=0.5, **fields)
    return net, optimizer, sparsify(net, config, optimizer)


def step(net, optimizer, gradient):
    optimizer.zero_grad()
    (net(torch.eye(4)).squeeze(1) * torch.tensor(gradient)).sum().backward()
    optimizer.step()


def test_only_the_largest_are_used_and_trained_and_the_others_wait():
    net, optimizer, engine = layer([4.0, -3.0, 2.0, 1.0], update_every=2)
    meter, tensor = TopologyMeter(engine), engine.tensors[0]
    assert tensor.active().tolist() == [[True, True, False, False]]
    step(net, optimizer, [1.0, 1.0, 5.0, 5.0])
    assert net.weight.tolist() == [[3.0, -4.0, 2.0, 1.0]]
    step(net, optimizer, [2.5, 0.0, 5.0, 5.0])
    # 0.5, -4, 2, 1: the third takes the place of the first, with the value that it has waited with.
    assert net.weight.tolist() == [[0.5, -4.0, 2.0, 1.0]]
    assert tensor.active().tolist() == [[False, True, True, False]]
    assert net(torch.eye(4)).flatten().tolist() == [0.0, -4.0, 2.0, 0.0]
    step(net, optimizer, [9.0, 0.0, 1.0, 9.0])
    assert net.weight.tolist() == [[0.5, -4.0, 1.0, 1.0]]
    assert overall(meter.last.values()).divergence == 2
    assert meter.since_start()["weight"].divergence == 2


def test_masks_that_come_back_do_not_diverge():
    net, optimizer, engine = layer([4.0, 3.0, 2.0, 1.0], update_every=1)
    meter = TopologyMeter(engine)
    step(net, optimizer, [0.0, 2.0, 0.0, 0.0])  # 4 1 2 1
    step(net, optimizer, [0.0, 0.0, 1.5, 0.0])  # 4 1 0.5 1
    assert overall(meter.total.values()).divergence == 4
    assert meter.since_start()["weight"].divergence == 0


def test_it_needs_a_pattern_and_masks():
    with pytest.raises(ValueError, match=r"structure='unstructured': method 'rnm' needs N:M"):
        SparseConfig(method="rnm")
    with pytest.raises(ValueError, match="backend='condensed': method 'rnm' needs masked"):
        SparseConfig(method="rnm", structure="2:4", sparsity=0.5, backend="condensed")
