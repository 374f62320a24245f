"""GELU in chains, and the feed-forward blocks of Transformer layers."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.layers import gelu, pieces
from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.dense import become_dense
from sparse_core.layers.feed_forward import ChainedDecoderLayer, ChainedEncoderLayer


@pytest.mark.parametrize("name", gelu.NAMES)
def test_gelu_and_its_derivative_against_double_precision(name):
    numbers = np.concatenate([np.linspace(-15, 15, 3001), [0.0, -0.0, 1e-30, 40.0, -40.0]])
    x = torch.from_numpy(numbers).requires_grad_()
    exact = F.gelu(x, approximate="none" if name == "gelu" else "tanh")
    (slope,) = torch.autograd.grad(exact.sum(), x)
    given, out = numbers.astype(np.float32), np.empty(numbers.size, np.float32)
    gelu.gelu(name, given, out)
    np.testing.assert_allclose(out, exact.detach().numpy(), rtol=3e-7, atol=1e-6)
    np.testing.assert_allclose(given, slope.numpy(), rtol=0, atol=2e-6)


def test_gelu_keeps_what_is_no_number():
    given, out = np.array([np.nan, np.inf], np.float32), np.zeros(2, np.float32)
    gelu.gelu("gelu", given, out)
    assert np.isnan(out[0]) and out[1] == np.inf


def twins(make, **config):
    """Return a condensed network and a masked one with the same weights."""
    nets = []
    for backend in ("condensed", "masked"):
        torch.manual_seed(0)
        net = make()
        base = dict(method="static", sparsity=0.5, structure="constant_fan_in", backend=backend)
        sparsify(net, SparseConfig(**(base | config)))
        nets.append(net)
    return nets


def compare(condensed, masked, *shapes, tolerance=1e-5):
    torch.manual_seed(1)
    given = [torch.randn(shape) for shape in shapes]
    found = []
    for net in (condensed, masked):
        xs = [x.clone().requires_grad_() for x in given]
        out = net(*xs)
        net.zero_grad()
        out.pow(2).mean().backward()
        gradients = []
        for tensor in net.sparse_engine.tensors:
            grad = tensor.weight.grad
            if isinstance(tensor.layer, CondensedLinear):
                grad = torch.from_numpy(tensor.layer.pattern.expand(grad.numpy()))
            gradients.append(grad)
        found.append([out, *(x.grad for x in xs), *gradients])
        with torch.no_grad():
            found[-1] += [net(*given), net(*(x[:1] for x in given))]
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_within_a_chain(approximate):
    def make():
        between = nn.GELU(approximate), nn.Dropout(0.0), nn.Identity()
        return nn.Sequential(nn.Linear(6, 20), *between, nn.Linear(20, 4), nn.GELU(approximate))

    condensed, masked = twins(make)
    assert type(condensed) is CondensedSequential
    compare(condensed, masked, (7, 6))
    compare(condensed, masked, (3, 5, 6))


def test_dropout_that_drops_is_left_to_torch():
    def make():
        return nn.Sequential(nn.Linear(6, 20), nn.GELU(), nn.Dropout(0.5), nn.Linear(20, 4))

    condensed, masked = twins(make)
    x, found = torch.randn(7, 6), []
    for net in (condensed, masked):
        torch.manual_seed(3)
        found.append(net(x))
    torch.testing.assert_close(*found)
    compare(condensed.eval(), masked.eval(), (7, 6))


@pytest.mark.parametrize("batch", [512, 601])
def test_a_large_batch_goes_in_pieces(batch, monkeypatch):
    def make():
        return nn.Sequential(nn.Linear(6, 20), nn.GELU(), nn.Linear(20, 4), nn.Tanh())

    condensed, masked = twins(make)
    seen = []
    of_piece = pieces.samples_of_piece

    def watched(links, way):
        seen.append(of_piece(links, way))
        return seen[-1]

    monkeypatch.setattr("sparse_core.layers.passes.samples_of_piece", watched)
    monkeypatch.setattr(pieces, "SIGNAL", 3 * 64 * 20 * 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    compare(condensed, masked, (batch, 6))
    assert seen == [192]
    monkeypatch.setattr(pieces, "WEIGHTS", 100)
    compare(condensed, masked, (batch, 6))
    assert seen == [192, batch]


class Sub(nn.Sequential):
    """A sequence of a class of its own, as torchvision's multi-layer perceptron is."""


def test_a_sequence_of_another_class_keeps_it():
    condensed, masked = twins(lambda: Sub(nn.Linear(6, 20), nn.GELU(), nn.Linear(20, 4)))
    assert isinstance(condensed, Sub) and isinstance(condensed, CondensedSequential)
    compare(condensed, masked, (7, 6))
    compare(pickle.loads(pickle.dumps(condensed)), masked, (7, 6))
    become_dense(condensed)
    assert type(condensed) is Sub


LAYERS = {
    "relu": lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True),
    "gelu": lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0, F.gelu, norm_first=True),
    "tanh": lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0, nn.GELU("tanh")),
    "own": lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0, torch.sigmoid),
    "encoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0), 2, None),
    "decoder": lambda: nn.TransformerDecoderLayer(8, 2, 16, 0.0),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", LAYERS)
def test_transformer_layers_compute_what_masked_ones_do(name):
    condensed, masked = twins(LAYERS[name])
    shapes = [(3, 5, 8)] * (2 if name == "decoder" else 1)
    for train in (True, False):
        compare(condensed.train(train), masked.train(train), *shapes)
    chained = ChainedDecoderLayer if name == "decoder" else ChainedEncoderLayer
    assert any(isinstance(module, chained) for module in condensed.modules())
    compare(copy.deepcopy(condensed), masked, *shapes)
    become_dense(condensed)
    assert type(condensed) is type(LAYERS[name]())


def test_dropout_in_a_feed_forward_block():
    condensed, masked = twins(lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.5))
    x, found = torch.randn(3, 5, 8), []
    for net in (condensed, masked):
        torch.manual_seed(3)
        found.append(net(x))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("dense", ["linear1", "linear2"])
def test_one_condensed_layer_of_two(dense):
    compare(*twins(LAYERS["relu"], dense=(dense,)), (3, 5, 8))
