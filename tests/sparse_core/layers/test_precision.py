"""Condensed layers under autocast, and where half precision is not for them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sparse_core import InputError, SparseConfig, sparsify
from sparse_core.layers.condensed_conv import become_condensed_conv

HALVES = (torch.float16, torch.bfloat16)


def net(dtype=torch.float32):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 300), nn.Tanh(), nn.Linear(300, 3)).to(dtype)
    sparsify(module, SparseConfig(method="static", sparsity=0.5, backend="condensed", dense=()))
    return module


@pytest.mark.parametrize("dtype", HALVES)
def test_under_autocast_a_layer_computes_in_its_own_precision(dtype):
    module, dense = net(), nn.Linear(8, 8)
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype):
        assert dense(x).dtype == dtype
        out = module(x)
        after = module(dense(x))
    exact = module(x.detach().float())
    assert out.dtype == after.dtype == torch.float32
    torch.testing.assert_close(out, exact, rtol=0, atol=0)
    out.sum().backward()
    assert x.grad.dtype == dtype
    after.sum().backward()
    assert dense.weight.grad.any() and module[0].values.grad.any()


def test_under_autocast_a_gradient_of_a_gradient_is_as_exact():
    module = net()
    found = []
    for on in (False, True):
        x = torch.linspace(-1, 1, 32).reshape(4, 8).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            (slope,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
            assert torch.func.vmap(module)(x.detach()).dtype == torch.float32
        found.append([slope.detach(), *torch.autograd.grad(slope.pow(2).sum(), x)])
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_without_autocast_another_precision_is_refused():
    with pytest.raises(TypeError, match=r"input is torch.bfloat16, the layer's weights are torch"):
        net()(torch.zeros(2, 8, dtype=torch.bfloat16))
    with torch.autocast("cpu"), pytest.raises(TypeError, match=r"input is torch\.int64"):
        net()(torch.zeros(2, 8, dtype=torch.int64))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("given", ["the same", "float32"])
def test_half_precision_is_refused_in_one_line(dtype, given):
    module = net().to(dtype)
    x = torch.zeros(2, 8, dtype=dtype if given == "the same" else torch.float32)
    with pytest.raises(InputError, match=r'in_features=8, out_features=300.*backend="masked"') as e:
        module(x)
    assert "\n" not in str(e.value) and str(dtype) in str(e.value) and ".float()" in str(e.value)
    convolution = nn.Conv2d(2, 4, 3)
    sparsify(convolution, SparseConfig(method="static", sparsity=0.5))
    become_condensed_conv(convolution, convolution.weight_mask != 0)
    with pytest.raises(InputError, match=r"CondensedConv2d\("):
        convolution.to(dtype)(torch.zeros(1, 2, 5, 5, dtype=dtype))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("floats", [False, True])
def test_half_precision_does_not_round_the_topology(dtype, floats):
    """bfloat16 has 8 bits: column 257 would become 256."""
    module = net()
    masks = [torch.from_numpy(module[i].pattern.to_mask()) for i in (0, 2)]
    if floats:  # as in policies of Stable-Baselines3
        module[0].floats(), module[2].floats()
    again = copy.deepcopy(module.to(dtype)).float()
    for i, mask in zip((0, 2), masks, strict=True):
        assert torch.equal(torch.from_numpy(again[i].pattern.to_mask()), mask)
    x = torch.ones(2, 8)
    torch.testing.assert_close(again(x), net()(x), rtol=0.02, atol=0.02)


def test_bfloat16_states_go_from_one_backend_to_the_other():
    condensed = net().bfloat16()
    masked = nn.Sequential(nn.Linear(8, 300), nn.Tanh(), nn.Linear(300, 3))
    sparsify(masked, SparseConfig(method="static", sparsity=0.5, dense=(), seed=1))
    masked.bfloat16().load_state_dict(condensed.state_dict())
    pattern, values = condensed[0].pattern, condensed[0].values.detach().float().numpy()
    exact = torch.from_numpy(pattern.expand(values)).bfloat16()
    assert torch.equal(masked[0].weight, exact)
    before = {name: value.clone() for name, value in condensed.state_dict().items()}
    condensed.load_state_dict(masked.state_dict())
    for name, value in condensed.state_dict().items():
        assert torch.equal(value, before[name])


def test_weights_elsewhere_are_refused_in_one_line():
    module = net()
    with pytest.raises(
        InputError, match=r"on meta, condensed layers are for the CPU and for CUDA; or use .cpu\(\)"
    ):
        module.to("meta")(torch.zeros(2, 8))


def test_shared_weights_follow_a_change_of_precision():
    layer = net()[2]
    active = torch.from_numpy(layer.pattern.to_mask())
    layer.weight_protected = layer.weight_lent = ~active
    layer.weight_frozen = torch.randn(3, 300)
    layer.derive()
    x = torch.randn(2, 300)
    expected = layer(x).double()
    torch.testing.assert_close(layer.double()(x.double()), expected, rtol=1e-5, atol=1e-5)
