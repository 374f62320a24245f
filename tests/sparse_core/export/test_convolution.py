"""A condensed convolution is the convolution that it stands for."""

import copy
import pickle

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, condense, sparsify
from sparse_core.export import convolution
from sparse_core.export.convolution import CondensedConv2d, become_condensed_conv
from sparse_core.layers.dense import become_dense
from tests.sparse_core.export.subjects import ablate

CONVOLUTIONS = [
    dict(stride=1),
    dict(stride=2, padding=1),
    dict(stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    dict(padding="same", dilation=2, bias=False),
    dict(groups=2, padding=1),
    dict(groups=4),
    dict(padding=2, padding_mode="circular"),
    dict(padding=(1, 2), padding_mode="reflect", groups=2),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fields", CONVOLUTIONS, ids=str)
def test_a_condensed_convolution_is_a_convolution(fields, dtype):
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3, dtype=dtype, **fields)
    engine = sparsify(layer, SparseConfig(method="static", sparsity=0.6))
    ablate(engine, 0, [3])
    small = copy.deepcopy(layer)
    become_condensed_conv(small)
    with torch.no_grad():
        for shape in ((5, 4, 9, 11), (4, 9, 11), (1, 4, 30, 30), (0, 4, 9, 9)):
            x = torch.randn(*shape, dtype=dtype)
            torch.testing.assert_close(small(x), layer(x), rtol=1e-5, atol=1e-5)
    x = torch.randn(2, 4, 9, 9, dtype=dtype, requires_grad=True)
    ours = torch.autograd.grad(small(x).square().sum(), x)[0]
    theirs = torch.autograd.grad(layer(x).square().sum(), x)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for wrong in ((2, 3, 9, 9), (9, 9)):
        with pytest.raises(ValueError, match=r"input must be \(batch, 4, height, width\)"):
            small(torch.zeros(*wrong, dtype=dtype))
    become_dense(small)
    assert type(small) is nn.Conv2d and small.weight.shape == layer.weight.shape
    assert torch.equal(small.weight * (layer.weight_mask == 0), torch.zeros_like(layer.weight))
    torch.testing.assert_close(small(x), layer(x))


def test_condense_takes_convolutions_where_that_pays():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU())
    net += nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 8))
    sparsify(net, SparseConfig(method="static", sparsity=0.95, distribution="uniform"))
    small = condense(net)
    kinds = [type(m) for m in small[:6:2]]
    assert kinds == [nn.Conv2d, CondensedConv2d, CondensedConv2d]
    assert [type(m) for m in condense(net, batch=1)[:6:2]] == [nn.Conv2d] * 3
    x = torch.randn(2, 4, 44, 44)
    for one in (small, copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        torch.testing.assert_close(one(x), net(x), rtol=1e-5, atol=1e-5)


def test_a_condensed_convolution_notices_that_its_weights_were_loaded(monkeypatch):
    monkeypatch.setattr("sparse_core.export.condense.conv_pays", lambda layer, batch: True)
    torch.manual_seed(0)
    nets = [nn.Conv2d(2, 4, 3) for _ in range(2)]
    for seed in range(2):
        sparsify(nets[seed], SparseConfig(method="static", sparsity=0.5, seed=seed))
        nets[seed] = condense(nets[seed])
    x = torch.randn(1, 2, 5, 5)
    expected = nets[0](x)
    assert not torch.equal(nets[1](x), expected)
    nets[1].load_state_dict(nets[0].state_dict())
    assert torch.equal(nets[1](x), expected)


def test_an_input_smaller_than_the_kernel_is_named():
    layer = nn.Conv2d(2, 4, 3)
    sparsify(layer, SparseConfig(method="static", sparsity=0.5))
    become_condensed_conv(layer)
    with pytest.raises(ValueError, match=r"\(1, 2, 2, 5\) is smaller than the kernel"):
        layer(torch.zeros(1, 2, 2, 5))


def test_a_large_image_is_convolved_in_strips(monkeypatch):
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 4, 3)
    sparsify(layer, SparseConfig(method="static", sparsity=0.5))
    small = copy.deepcopy(layer)
    become_condensed_conv(small)
    monkeypatch.setattr(convolution, "STRIP_WEIGHTS", 400)
    x = torch.randn(7, 2, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(small(x), layer(x))
