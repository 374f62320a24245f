"""Groups of 16 and 32, which have kernels on GPUs only, train on the CPU as well if asked to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.kernels import linear
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.step import CannotCompile, Chain, Shape


def _network(backend: str) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(24, 40), nn.ReLU(), nn.Linear(40, 24)).double()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    config = SparseConfig(
        method="srigl", sparsity=0.5, group=16, update_every=2, horizon=20, backend=backend
    )
    sparsify(net, config, optimizer, batch=256)
    return net, optimizer


def test_they_visit_the_topologies_of_masks() -> None:
    found = []
    x = torch.randn(7, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for backend in ("masked", "condensed"):
        net, optimizer = _network(backend)
        for _ in range(6):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        assert isinstance(net[0], CondensedLinear) is (backend == "condensed")
        found.append([tensor.values() for tensor in net.sparse_engine.tensors])
    for masked, condensed in zip(*found, strict=True):
        assert torch.equal(masked != 0, condensed != 0)
        torch.testing.assert_close(masked, condensed)


def test_what_computes_on_kernels_of_the_cpu_leaves_them_out() -> None:
    net, _ = _network("auto")
    assert not any(isinstance(layer, CondensedLinear) for layer in net)
    net, _ = _network("condensed")
    net.float()
    with pytest.raises(CannotCompile, match="has groups of 16, which are for GPUs"):
        Chain(net, Shape.of(8), "net")
    layer = net[0]
    assert isinstance(layer, CondensedLinear)
    with pytest.raises(ValueError, match="group 16 is for GPUs, kernels for the CPU are for"):
        linear(layer.pattern, layer.values.detach().numpy(), torch.zeros(3, 24).numpy())
    assert net(torch.ones(3, 24)).shape == (3, 24)
