"""Groups of 16 and 32 train condensed on the CPU, as smaller ones do."""

from __future__ import annotations

import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.layers.condensed import CondensedLinear


def _network(backend: str) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(24, 40), nn.ReLU(), nn.Linear(40, 24))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    config = SparseConfig(
        method="srigl", sparsity=0.5, group=16, update_every=2, horizon=20, backend=backend
    )
    sparsify(net, config, optimizer, batch=256)
    return net, optimizer


def test_they_visit_the_topologies_of_masks() -> None:
    """The last group of both layers has fewer rows than the others."""
    found = []
    x = torch.randn(7, 24, generator=torch.Generator().manual_seed(0))
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


def test_auto_condenses_them_where_a_smaller_group_would_be(monkeypatch) -> None:
    monkeypatch.setenv("SPARSE_CORE_COSTS", "shipped")
    for width, condensed in ((16, False), (512, True)):
        for group in (8, 16, 32):
            net = nn.Sequential(nn.Linear(width, width))
            config = SparseConfig(method="srigl", sparsity=0.9, group=group, backend="auto")
            sparsify(net, config, torch.optim.SGD(net.parameters(), 0.1), batch=256)
            assert isinstance(net[0], CondensedLinear) is condensed
