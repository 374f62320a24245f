"""A condensed convolution is the convolution that it stands for."""

import copy
import pickle

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, condense, sparsify
from sparse_core.checks import InputError
from sparse_core.layers.condensed_conv import (
    CondensedConv2d,
    Correlation,
    become_condensed_conv,
    why_not_condensed_conv,
)
from sparse_core.layers.conv_choice import conv_pays, fitted
from sparse_core.layers.conv_costs import ConvCosts, Filters
from sparse_core.layers.dense import become_dense
from sparse_core.weights.conversion import condensed_from, masked_from
from tests.sparse_core.convolutions import few_patches
from tests.sparse_core.export.subjects import ablate

__all__ = ["few_patches"]

pytestmark = pytest.mark.usefixtures("few_patches")

CONVOLUTIONS = [
    dict(stride=2, padding=1),
    dict(stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    dict(padding="same", dilation=2, bias=False),
    dict(groups=2, padding=1),
    dict(padding=2, padding_mode="circular"),
    dict(padding=(1, 2), padding_mode="reflect", groups=2),
]


def pair(dtype=torch.float32, filters=8, **fields):
    """Return a masked convolution with an ablated filter, and the same one condensed."""
    torch.manual_seed(0)
    layer = nn.Conv2d(4, filters, 3, dtype=dtype, **fields)
    engine = sparsify(layer, SparseConfig(method="static", sparsity=0.6))
    ablate(engine, 0, [3])
    small = copy.deepcopy(layer)
    become_condensed_conv(small, small.weight_mask != 0)
    return layer, small


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fields", CONVOLUTIONS, ids=str)
def test_a_condensed_convolution_is_a_convolution(fields, dtype):
    layer, small = pair(dtype, **fields)
    with torch.no_grad():
        for shape in ((5, 4, 9, 11), (4, 9, 11), (1, 4, 9, 9), (0, 4, 9, 9)):
            x = torch.randn(*shape, dtype=dtype)
            torch.testing.assert_close(small(x), layer(x), rtol=1e-5, atol=1e-5)
    x = torch.randn(2, 4, 9, 9, dtype=dtype, requires_grad=True)
    slopes = []
    for one, weight in ((small, small.values), (layer, layer.weight)):
        parameters = [p for p in (x, weight, one.bias) if p is not None]
        found = [*torch.autograd.grad(one(x).square().sum(), parameters)]
        if one is small:
            dense = torch.from_numpy(small.pattern.expand(found[1].numpy()))
            found[1] = dense.reshape(layer.weight.shape)
        slopes.append(found)
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-4)
    for wrong in ((2, 3, 9, 9), (9, 9)):
        with pytest.raises(InputError, match=r"input must be \(batch, 4, height, width\)"):
            small(torch.zeros(*wrong, dtype=dtype))
    become_dense(small)
    assert type(small) is nn.Conv2d and small.weight.shape == layer.weight.shape
    assert torch.equal(small.weight * (layer.weight_mask == 0), torch.zeros_like(layer.weight))
    torch.testing.assert_close(small(x), layer(x))


def test_memory_is_laid_out_as_that_of_the_input():
    layer, small = pair(padding=1)
    x = torch.randn(6, 4, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = small(x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    (slope,) = torch.autograd.grad(out.sum(), x)  # a gradient of one number, expanded
    torch.testing.assert_close(slope, torch.autograd.grad(layer(x).sum(), x)[0])
    assert slope.is_contiguous(memory_format=torch.channels_last)
    strided = torch.randn(6, 4, 8, 16)[..., ::2]
    torch.testing.assert_close(small(strided), layer(strided))


def test_the_dense_gradient_of_some_filters():
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, 2, 1, groups=2)
    become_condensed_conv(layer, torch.ones(8, 2, 3, 3, dtype=torch.bool))
    dense = copy.deepcopy(layer)
    become_dense(dense)
    x = torch.randn(3, 4, 7, 7)
    out = dense(x)
    dy = torch.randn(out.shape)
    (whole,) = torch.autograd.grad(out, dense.weight, dy)
    correlation = layer.weight_tap.product
    assert isinstance(correlation, Correlation) and pickle.loads(pickle.dumps(correlation))
    for rows in (slice(None), slice(0, 2), slice(2, 6), slice(6, 8)):
        torch.testing.assert_close(correlation(x, dy, rows), whole.flatten(1)[rows])


def test_filters_rest_until_weights_change():
    layer, small = pair(padding=1)
    x = torch.randn(1, 4, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(small(x), layer(x))
        before, rests = small(x), small._resting[-1]
        small(x)
        assert small._resting[-1] is rests
        small.values.mul_(2)
        assert not torch.equal(small(x), before)
        small.values.div_(2)
        assert torch.equal(small(x), before)
    for one in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert one._resting is None and torch.equal(one(x).detach(), small(x).detach())


def test_from_one_form_to_the_other_and_back():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    optimizer = torch.optim.Adam(net.parameters())
    engine = sparsify(net, SparseConfig(method="rigl", sparsity=0.5), optimizer)
    x = torch.randn(4, 3, 5, 5)
    net(x).square().sum().backward()
    optimizer.step()
    tensor, expected = engine.tensors[0], net(x).detach()
    moments = optimizer.state[net[0].weight]["exp_avg"] * net[0].weight_mask
    condensed = condensed_from(tensor, tensor.count() + 2)
    condensed.adopt(optimizer)
    assert type(net[0]) is CondensedConv2d and condensed.shape == (8, 3, 3, 3)
    torch.testing.assert_close(net(x), expected)
    masked = masked_from(condensed, optimizer)
    assert torch.equal(masked.active(), tensor.active())
    assert torch.equal(optimizer.state[net[0].weight]["exp_avg"], moments)
    assert torch.equal(masked.seen(), tensor.seen())
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize(
    ("fields", "group", "said"),
    [
        (dict(in_channels=8, groups=8), 1, "depthwise"),
        (dict(in_channels=8), 16, "kernels are for (1, 2, 4, 8)"),
        (dict(in_channels=4, groups=2), 8, "groups of 8 filters would reach over groups=2"),
        (dict(in_channels=4, dtype=torch.bfloat16), 1, "torch.bfloat16, not float32 or float64"),
        (dict(in_channels=4), 8, None),
    ],
)
def test_which_convolutions_stay_masked(fields, group, said):
    layer = nn.Conv2d(out_channels=8, kernel_size=3, **fields)
    reason = why_not_condensed_conv(layer, group)
    assert reason == said if said is None else said in reason
    if said is not None:
        with pytest.raises(InputError, match="condensed convolutions: "):
            become_condensed_conv(layer, layer.weight != 0, group=group)


def test_an_input_smaller_than_the_kernel_is_named():
    _, small = pair()
    with pytest.raises(InputError, match=r"\(1, 4, 2, 5\) is smaller than the kernel"):
        small(torch.zeros(1, 4, 2, 5))


def test_condense_takes_convolutions_where_that_pays():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 8, 1, 2), nn.Flatten())
    sparsify(net, SparseConfig(method="static", sparsity=0.95, distribution="uniform", dense=()))
    small = condense(net)
    assert [type(m) for m in small[:3:2]] == [CondensedConv2d, nn.Conv2d]
    assert type(condense(net, batch=1)[0]) is nn.Conv2d
    x = torch.randn(4, 4, 20, 20)
    for one in (small, copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        torch.testing.assert_close(one(x), net(x), rtol=1e-5, atol=1e-5)


TRUE = ConvCosts(0.05, 1.0, 0.1, 0.8)


def test_costs_by_hand():
    filters = Filters.of(nn.Conv2d(16, 32, 3, 2, groups=2), 0.1)
    assert filters == Filters(32, 72, 64, 0.1)
    assert TRUE.masked(filters) == pytest.approx(0.05 * 2304 + 96)
    assert TRUE.condensed(filters) == pytest.approx(0.1 * 230.4 + 0.8 * 96)


def test_the_fit_finds_the_costs_that_made_the_times():
    times = {}
    for channels, count, kernel in ((16, 32, 3), (64, 64, 3), (64, 64, 1)):
        for density in (None, 0.1, 0.4):
            filters = Filters(count, channels * kernel**2, channels, density or 1.0)
            cost = TRUE.masked(filters) if density is None else TRUE.condensed(filters)
            times[channels, count, kernel, density] = 1e-9 * cost * 500
    found = fitted(times, 500)
    assert vars(found) == pytest.approx(vars(TRUE))


def test_auto_condenses_by_the_rule():
    layer = nn.Conv2d(64, 64, 3)
    assert conv_pays(layer, layer.weight.numel() // 20, 1, 32)
    assert not conv_pays(layer, layer.weight.numel(), 1, 32)
    assert not conv_pays(layer, layer.weight.numel() // 20, 1, 1)
    assert not conv_pays(nn.Conv2d(64, 64, 1, 2), 1, 1, 32)
