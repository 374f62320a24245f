"""One sample without gradients: one call of a kernel, the numbers of the long way."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparse_core import InputError
from sparse_core.kernels.format import Pattern
from sparse_core.layers.chaining import chain
from sparse_core.layers.condensed import become_condensed
from sparse_core.layers.passes import run
from sparse_core.layers.single import chain_of_one_sample, of_one_sample


def made(out=12, inputs=9, group=1, bias=True, density=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(inputs, out, bias=bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    rows = torch.rand(-(-out // group), inputs, generator=generator) < density
    become_condensed(layer, rows.repeat_interleave(group, 0)[:out], group=group)
    return layer


def expected(layer, x):
    return nn.functional.linear(x, layer.dense_weight(), layer.bias).detach()


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def ready(**shape):
    """A layer that has seen a sample, so that the next goes the short way."""
    layer = made(**shape)
    x = torch.randn(1, layer.in_features)
    layer(x)
    assert of_one_sample(layer, x) is not None
    return layer, x


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 50),
    st.sampled_from([1, 4]),
    st.booleans(),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.integers(0, 99),
)
def test_numbers_are_those_of_the_long_way(out, inputs, group, bias, density, seed):
    layer = made(out, inputs, group, bias, density, seed)
    x = torch.randn(1, inputs)
    first = layer(x)
    found = of_one_sample(layer, x)
    assert torch.equal(found, run([layer], x))
    assert torch.equal(found, first)
    assert (found.shape, found.dtype) == ((1, out), torch.float32)
    torch.testing.assert_close(found, expected(layer, x))


def test_columns_beyond_16_bits():
    layer, x = ready(out=3, inputs=70_000, density=0.01)
    assert layer.pattern.index == "int32"
    assert torch.equal(of_one_sample(layer, x), run([layer], x))


def flipped(x):
    return torch._neg_view(x)


def zeros(x):
    return torch._efficientzerotensor(x.shape)


def strided(x):
    return torch.stack([x, x], -1)[..., 0]


@pytest.mark.parametrize("special", [flipped, zeros, strided, torch.Tensor.to_mkldnn])
def test_memory_that_is_not_the_numbers_goes_the_long_way(special):
    layer, x = ready()
    assert of_one_sample(layer, special(x)) is None


def test_views_that_are_the_numbers():
    layer, _ = ready()
    many = torch.randn(5, layer.in_features)
    for i in range(5):
        assert torch.equal(layer(many[i : i + 1]), run([layer], many[i : i + 1].clone()))
    row = strided(many[:1])
    torch.testing.assert_close(layer(row), expected(layer, row))


@pytest.mark.parametrize("shape", [(9,), (2, 9), (1, 1, 9), (0, 9)])
def test_other_shapes(shape):
    layer, _ = ready()
    x = torch.randn(shape)
    assert of_one_sample(layer, x) is None
    torch.testing.assert_close(layer(x), expected(layer, x))


def test_what_does_not_fit_is_refused_as_ever():
    layer, _ = ready()
    with pytest.raises(InputError, match="input must be"):
        layer(torch.randn(1, 8))
    with pytest.raises(TypeError, match="float64"):
        layer(torch.randn(1, 9).double())


def test_inputs_that_require_gradients():
    layer, x = ready()
    assert torch.equal(layer(x.clone().requires_grad_()), layer(x))


def test_inference_mode_and_defaults():
    layer, x = ready()
    with torch.inference_mode():
        assert layer(x).is_inference()
    torch.set_default_dtype(torch.float64)
    try:
        assert layer(x).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_outputs_are_not_written_again():
    layer, x = ready()
    first = layer(x)
    kept = first.clone()
    layer(x + 1)
    assert torch.equal(first, kept)


def test_transforms_see_the_operations():
    layer, x = ready()
    many = torch.cat([x, -x, 2 * x])
    found = torch.func.vmap(lambda one: layer(one[None])[0])(many)
    torch.testing.assert_close(found, expected(layer, many))


def other_bias(layer):
    layer.bias = nn.Parameter(torch.randn(layer.bias.shape))


def other_memory(layer):
    layer.values.data = torch.randn(layer.values.shape)
    layer.bias.data = torch.randn(layer.bias.shape)


def other_topology(layer):
    mask = layer.mask().roll(1, 1)
    layer.set_pattern(Pattern.from_mask(mask.numpy()))


def no_bias(layer):
    layer.bias = None


def in_double(layer):
    layer.double().float()


def gave_biases(layer):
    layer.weight_reserved = torch.arange(layer.out_features) < 4
    layer.weight_given = torch.full((layer.out_features,), 7.0)


@pytest.mark.parametrize("change", [other_bias, other_memory, other_topology, no_bias, in_double])
def test_a_layer_is_what_it_is_now(change):
    layer, x = ready()
    change(layer)
    for _ in range(2):
        torch.testing.assert_close(layer(x), expected(layer, x))


def test_biases_of_earlier_tasks():
    layer, x = ready()
    own = layer(x)
    gave_biases(layer)
    shift = 7.0 - layer.bias[:4]
    torch.testing.assert_close(layer(x)[:, :4], own[:, :4] + shift)
    assert torch.equal(layer(x)[:, 4:], own[:, 4:])


def test_weights_of_earlier_tasks():
    layer, x = ready()
    layer.weight_protected = layer.mask()
    layer.weight_frozen = 2 * layer.dense_weight()
    torch.testing.assert_close(
        layer(x), nn.functional.linear(x, layer.weight_frozen, layer.bias).detach()
    )


def test_a_copy_asks_each_time_whether_it_was_averaged_by_hand():
    layer, x = ready()
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), layer(x))
    assert twin._lineage is not None
    assert of_one_sample(twin, x) is None


def network(*between, group=1):
    """Two condensed layers with modules between and after them, run as one chain."""
    made_of = [made(16, 9, group), *between, made(8, 16, group, seed=1), nn.Tanh()]
    net = nn.Sequential(*made_of)
    chain(net)
    return net


def one_by_one(net, x):
    for module in net:
        weight = module.dense_weight() if hasattr(module, "values") else None
        x = module(x) if weight is None else nn.functional.linear(x, weight, module.bias)
    return x


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize("between", [[], [nn.ReLU()], [nn.Tanh()]])
def test_a_chain_of_one_sample_has_the_numbers_of_the_long_way(between, group):
    net, x = network(*between, group=group), torch.randn(1, 9)
    first = net(x)
    short = chain_of_one_sample(list(net), x)
    assert short is not None
    assert torch.equal(short, run(list(net), x)) and torch.equal(short, first)
    torch.testing.assert_close(short, one_by_one(net, x))


@pytest.mark.parametrize("change", [other_bias, other_memory, other_topology, no_bias, in_double])
def test_a_chain_is_what_its_layers_are_now(change):
    net, x = network(nn.ReLU()), torch.randn(1, 9)
    net(x)
    change(net[2])
    for _ in range(2):
        torch.testing.assert_close(net(x), one_by_one(net, x))


@pytest.mark.parametrize("shape", [(9,), (2, 9), (1, 1, 9), (0, 9)])
def test_other_shapes_go_the_long_way_through_a_chain(shape):
    net = network(nn.ReLU())
    net(torch.randn(1, 9))
    x = torch.randn(shape)
    assert chain_of_one_sample(list(net), x) is None
    torch.testing.assert_close(net(x), one_by_one(net, x))


def test_a_chain_with_biases_of_earlier_tasks_goes_the_long_way():
    net, x = network(nn.ReLU()), torch.randn(1, 9)
    net(x)
    gave_biases(net[2])
    assert chain_of_one_sample(list(net), x) is None
    torch.testing.assert_close(net(x), torch.tanh(net[2](net[1](net[0](x)))))


def test_a_chain_with_gelu_goes_the_long_way():
    net, x = network(nn.GELU()), torch.randn(1, 9)
    net(x)
    assert chain_of_one_sample(list(net), x) is None
    torch.testing.assert_close(net(x), one_by_one(net, x))
