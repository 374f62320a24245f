"""Queries, keys and values of different tokens: products with parts of one condensed projection."""

from __future__ import annotations

import torch

from sparse_core.layers.condensed import CondensedLinear
from tests.sparse_core.layers.attending import SIZE, attention, dense_twin, sparse


def test_queries_keys_and_values_meet_their_own_rows_only(monkeypatch):
    """No product with the whole of `in_proj`, whose hooks see it where there are any."""
    module = attention(batch_first=True)
    sparse(module, group=2)
    x, memory = torch.randn(2, 5, SIZE), torch.randn(2, 7, SIZE)
    expected, seen = module(x, memory, memory)[0], []
    with torch.no_grad():
        torch.testing.assert_close(module(x, memory, memory)[0], expected)
        one = module(x[:1, :1], memory[:1], memory[:1])[0]
        torch.testing.assert_close(one, expected[:1, :1])
    handle = module.in_proj.register_forward_hook(lambda *_: seen.append(1))
    torch.testing.assert_close(module(x, memory, memory)[0], expected)
    assert len(seen) == 2
    handle.remove()
    monkeypatch.setattr(CondensedLinear, "forward", None)
    found = module._projected(x, memory, memory)
    assert [tuple(t.shape) for t in found] == [(2, 5, SIZE), (2, 7, SIZE), (2, 7, SIZE)]


def test_parts_have_second_derivatives_and_need_not_all_be_used():
    module = attention(batch_first=True)
    sparse(module)
    twin = dense_twin(module, batch_first=True)
    xs = [torch.randn(2, n, SIZE, requires_grad=True) for n in (5, 7, 7)]
    found = []
    for net in (module, twin):
        out = net(*xs)[0]  # torch differentiates these only once without weights
        first = torch.autograd.grad(out.square().sum(), xs, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), xs))
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    module.zero_grad()
    module._projected(*xs)[1].sum().backward()
    layer = module.in_proj
    grown = layer.pattern.expand(layer.values.grad.numpy())
    assert grown[SIZE : 2 * SIZE].any()
    assert not grown[:SIZE].any() and not grown[2 * SIZE :].any()
    assert layer.bias.grad.tolist() == [0.0] * SIZE + [14.0] * SIZE + [0.0] * SIZE
