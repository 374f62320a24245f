"""A condensed layer, by itself or in a chain, is the linear layer that it stands for."""

import copy

import pytest
import torch
from torch import nn

from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.chaining import chain
from sparse_core.layers.condensed import become_condensed
from sparse_core.layers.dense import become_dense


def condensed(n_in=6, n_out=5, bias=True, group=1, dtype=torch.float64):
    torch.manual_seed(0)
    layer = nn.Linear(n_in, n_out, bias=bias, dtype=dtype)
    mask = torch.rand(-(-n_out // group), n_in) < 0.5
    mask[0] = False
    mask = mask.repeat_interleave(group, 0)[:n_out]
    dense = copy.deepcopy(layer)
    with torch.no_grad():
        dense.weight.mul_(mask)
    become_condensed(layer, mask, group=group, capacity=int(mask.sum()) + 3 * group)
    return layer, dense


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("shape", [(6,), (1, 6), (3, 6), (2, 3, 6), (0, 6), (70, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_condensed_layer_is_a_linear_layer(bias, group, shape, dtype):
    layer, dense = condensed(bias=bias, group=group, dtype=dtype)
    x = torch.randn(*shape, dtype=dtype)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = layer(ours), dense(theirs)
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    if bias:
        torch.testing.assert_close(layer.bias.grad, dense.bias.grad)
    mask = torch.from_numpy(layer.pattern.to_mask())
    gradient = torch.from_numpy(layer.pattern.expand(layer.values.grad.numpy()))
    torch.testing.assert_close(gradient, dense.weight.grad * mask)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), dense(x))


@pytest.mark.parametrize("group", [1, 2])
def test_gradcheck(group):
    layer, _ = condensed(group=group)
    chain = CondensedSequential(layer, nn.Tanh(), condensed(5, 3)[0])
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(chain, (x,))
    values = [p for p in chain.parameters()]
    assert torch.autograd.gradcheck(lambda *_: chain(x), (x, *values), nondet_tol=0.0)


def test_a_chain_computes_what_its_modules_do_one_by_one():
    net = nn.Sequential(
        condensed(6, 8, dtype=torch.float32)[0],
        nn.ReLU(),
        condensed(8, 8, dtype=torch.float32)[0],
        nn.Tanh(),
        nn.LayerNorm(8),
        condensed(8, 3, dtype=torch.float32)[0],
    )
    chained = copy.deepcopy(net)
    chained.__class__ = CondensedSequential
    x = torch.randn(37, 6)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.testing.assert_close(net(one), chained(other))
    net(one).square().sum().backward()
    chained(other).square().sum().backward()
    torch.testing.assert_close(one.grad, other.grad)
    for p, q in zip(net.parameters(), chained.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
    seen = []
    chained[1].register_forward_hook(lambda *args: seen.append(args[2].shape))
    chained(x)
    assert seen == [(37, 8)]


def test_a_frozen_weight_stays_frozen_in_either_form():
    for trains in (True, False):
        layer = nn.Linear(6, 4).requires_grad_(trains)
        become_condensed(layer, torch.rand(4, 6) < 0.5)
        assert layer.values.requires_grad == trains
        become_dense(layer)
        assert layer.weight.requires_grad == layer.bias.requires_grad == trains


def test_conversion_is_lossless():
    torch.manual_seed(0)
    layer = nn.Linear(20, 30)
    mask = torch.rand(30, 20) < 0.3
    with torch.no_grad():
        layer.weight.mul_(mask)
        layer.weight[mask.nonzero()[0][0], mask.nonzero()[0][1]] = 0.0
    before, bias = layer.weight.detach().clone(), layer.bias
    become_condensed(layer, mask, capacity=300)
    assert layer.values.shape == (300,) and layer.pattern.nnz == int(mask.sum())
    assert torch.equal(layer.mask(), mask)
    become_dense(layer)
    assert type(layer) is nn.Linear and torch.equal(layer.weight, before) and layer.bias is bias


@pytest.mark.parametrize(
    ("input", "error", "message"),
    [
        (torch.zeros(3, 7), ValueError, r"input must be \(..., 6\), got \(3, 7\)"),
        (torch.zeros(()), ValueError, r"input must be \(..., 6\), got \(\)"),
        (torch.zeros(3, 6, dtype=torch.float16), TypeError, "input is torch.float16"),
        (torch.zeros(3, 6, dtype=torch.int64), TypeError, "input is torch.int64"),
        (
            torch.zeros(3, 6, device="meta"),
            ValueError,
            "its input is on meta, its weights are on cpu",
        ),
    ],
)
def test_wrong_inputs_are_named(input, error, message):
    layer, _ = condensed(dtype=torch.float32)
    with pytest.raises(error, match=message):
        layer(input)


def test_inputs_of_any_memory_layout_and_value():
    layer, dense = condensed(dtype=torch.float32)
    x = torch.randn(6, 50).T
    torch.testing.assert_close(layer(x), dense(x))
    torch.testing.assert_close(layer(x[::3]), dense(x[::3]))
    spoilt = torch.randn(50, 6)
    spoilt[3, 2], spoilt[4, 1] = float("nan"), float("inf")
    good = torch.ones(50, dtype=torch.bool)
    good[3:5] = False
    out = layer(spoilt)
    torch.testing.assert_close(out[good], dense(spoilt)[good])
    assert bool(out[3].isnan().any() & ~out[4].isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chains_with_activations_anywhere(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(
        nn.Linear(9, 12), nn.Tanh(), nn.Tanh(), nn.Linear(12, 10), nn.ReLU(), nn.Tanh(),
        nn.Linear(10, 8, bias=False), nn.Tanh(), nn.ReLU(), nn.ReLU(),
    ).to(dtype)  # fmt: skip
    condensed = copy.deepcopy(dense)
    for module in condensed:
        if isinstance(module, nn.Linear):
            become_condensed(module, torch.ones_like(module.weight, dtype=torch.bool))
    chain(condensed)
    x = torch.randn(11, 9, dtype=dtype)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [net(i) for net, i in zip((dense, condensed), inputs, strict=True)]
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(condensed(x), outputs[0])
    for out in outputs:
        out.square().sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)


def test_nan_goes_through_a_chain() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    for module in (net[0], net[2]):
        become_condensed(module, torch.ones_like(module.weight, dtype=torch.bool))
    chain(net)
    x = torch.randn(16, 4)
    x[3, 1] = torch.nan
    for batch in (x, x[3:4]):
        for out in (net(batch), net(batch).detach(), net[:2](batch)):
            rows = torch.isnan(out).all(1)
            assert rows.sum() == 1 and torch.isnan(out).sum() == out.shape[1]
