"""Condensed layers that read weights of earlier tasks: a dense layer with both is the oracle."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.condensed import become_condensed

INPUTS, OUTPUTS = 9, 8


def masks(group):
    """Own weights, and weights of an earlier task beside them; some rows have only one kind."""
    generator = torch.Generator().manual_seed(4)
    draws = torch.rand(OUTPUTS // group, INPUTS, generator=generator)
    own, earlier = draws < 0.4, draws > 0.7
    own[0] = False
    earlier[1] = False
    return own.repeat_interleave(group, 0), earlier.repeat_interleave(group, 0)


def made(kind, group, dtype):
    """A layer that reads both, its own weights alone, and the dense layer that it is."""
    torch.manual_seed(0)
    dense = nn.Linear(INPUTS, OUTPUTS, dtype=dtype)
    own, earlier = masks(group)
    with torch.no_grad():
        dense.weight.mul_(own | earlier)
    layer = copy.deepcopy(dense)
    held = own | earlier if kind == "reused" else own
    become_condensed(layer, held, group=group, capacity=int(held.sum()) + 2 * group)
    layer.weight_protected = earlier
    layer.weight_frozen = dense.weight.detach().clone()
    layer.weight_lent = earlier if kind == "lent" else None
    return layer, own, dense


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 2, 33])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("kind", ["reused", "lent"])
def test_both_are_read_and_one_is_trained(kind, group, batch, dtype):
    layer, own, dense = made(kind, group, dtype)
    x = torch.randn(batch, INPUTS, dtype=dtype)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = layer(ours), dense(theirs)
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(layer.bias.grad, dense.bias.grad)
    assert layer.values.grad.shape == layer.values.shape
    gradient = torch.from_numpy(layer.pattern.expand(layer.values.grad.numpy()))
    torch.testing.assert_close(gradient, dense.weight.grad * own)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), dense(x))


@pytest.mark.parametrize("kind", ["reused", "lent"])
def test_gradcheck_through_a_chain(kind):
    first, second = (made(kind, 1, torch.float64)[0] for _ in range(2))
    narrow = nn.Linear(OUTPUTS, INPUTS, dtype=torch.float64)
    become_condensed(narrow, torch.ones(INPUTS, OUTPUTS, dtype=torch.bool))
    chain = CondensedSequential(first, nn.Tanh(), narrow, nn.Tanh(), second)
    x = torch.randn(3, INPUTS, dtype=torch.float64, requires_grad=True)
    trained = [narrow.values, first.bias, second.bias]
    trained += [first.values, second.values] if kind == "lent" else []
    assert torch.autograd.gradcheck(lambda *_: chain(x), (x, *trained))


def test_a_change_of_the_values_is_read():
    layer, own, dense = made("lent", 1, torch.float32)
    x = torch.randn(5, INPUTS)
    layer(x)
    with torch.no_grad():
        layer.values.mul_(2)
        dense.weight.copy_(torch.where(own, 2 * dense.weight, dense.weight))
    torch.testing.assert_close(layer(x), dense(x))


def test_another_topology_is_read_beside_the_lent_weights():
    layer, own, dense = made("lent", 1, torch.float32)
    x = torch.randn(5, INPUTS)
    layer(x)
    moved = torch.roll(own, 1, 0) & ~layer.weight_lent
    moved.view(-1)[moved.view(-1).nonzero().squeeze(1)[int(own.sum()) :]] = False
    pattern = type(layer.pattern).from_mask(moved.numpy())
    layer.set_pattern(pattern)
    weights = torch.from_numpy(pattern.expand(layer.values.detach().numpy()))
    with torch.no_grad():
        dense.weight.copy_(torch.where(layer.weight_lent, layer.weight_frozen, weights))
    torch.testing.assert_close(layer(x), dense(x))
