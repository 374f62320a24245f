"""A layer's link is kept from call to call; whatever is done to the layer, it is what it is now."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from sparse_core.kernels.format import Pattern
from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.condensed import become_condensed
from sparse_core.layers.links import link_of

SIZES = (7, 9, 5)


def made(bias=True):
    torch.manual_seed(0)
    layers = [nn.Linear(a, b, bias=bias) for a, b in pairwise(SIZES)]
    for layer in layers:
        become_condensed(layer, torch.rand(layer.weight.shape) < 0.5, capacity=60)
    return CondensedSequential(layers[0], nn.ReLU(), layers[1])


def expected(net, x):
    first, _, second = net
    for layer in (first, second):
        weight = torch.from_numpy(layer.pattern.expand(layer.values.detach().numpy()))
        x = nn.functional.linear(x, weight, layer.bias)
        x = x.relu() if layer is first else x
    return x.detach()


def in_place(net, layer, generator):
    with torch.no_grad():
        layer.values.mul_(1.5)
        if layer.bias is not None:
            layer.bias.add_(0.5)


def other_memory(net, layer, generator):
    layer.values.data = torch.randn(layer.values.shape, generator=generator)


def other_parameters(net, layer, generator):
    layer.values = nn.Parameter(torch.randn(layer.values.shape, generator=generator))
    if layer.bias is not None:
        layer.bias = nn.Parameter(torch.randn(layer.bias.shape, generator=generator))


def other_topology(net, layer, generator):
    mask = torch.rand(layer.dense_shape, generator=generator) < 0.6
    layer.set_pattern(Pattern.from_mask(mask.numpy()))


def loaded(net, layer, generator):
    state = {k: v.clone() for k, v in made(layer.bias is not None).state_dict().items()}
    net.load_state_dict(state)


def strided(net, layer, generator):
    layer.values.data = torch.randn(2 * layer.values.numel(), generator=generator)[::2]


CHANGES = [in_place, other_memory, other_parameters, other_topology, loaded, strided]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(CHANGES), st.sampled_from([0, 2])), max_size=5),
    st.booleans(),
    st.sampled_from([1, 6]),
)
def test_the_output_is_of_what_the_layers_hold_now(changes, bias, batch):
    net, x = made(bias), torch.randn(batch, SIZES[0])
    generator = torch.Generator().manual_seed(1)
    for change, index in changes:
        net(x)
        change(net, net[index], generator)
        torch.testing.assert_close(net(x).detach(), expected(net, x))
        with torch.no_grad():
            torch.testing.assert_close(net(x), expected(net, x))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_a_copy_has_links_of_its_own(copied):
    net, x = made(), torch.randn(4, SIZES[0])
    before = net(x).detach()
    twin = copied(net)
    in_place(twin, twin[0], None)
    assert torch.equal(net(x), before)
    torch.testing.assert_close(twin(x).detach(), expected(twin, x))


def test_parameters_of_one_call_only():
    net, x = made(), torch.randn(4, SIZES[0])
    before = net(x)
    other = {name: torch.randn(p.shape) for name, p in net.named_parameters()}
    there = made()
    there.load_state_dict(other, strict=False)
    torch.testing.assert_close(functional_call(net, other, (x,)), there(x))
    assert torch.equal(net(x), before)


def test_nothing_is_made_anew_while_nothing_changes():
    layer = made()[0]
    link = link_of(layer, "relu")
    assert link_of(layer, "relu") is link
    assert np.shares_memory(link.values, layer.values.detach().numpy())
    assert link_of(layer, None) is not link
