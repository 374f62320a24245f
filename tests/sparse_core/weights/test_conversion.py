"""A condensed network that becomes masked again is the masked network, and trains on as it does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.linear import MaskedLinear


def make(backend, bias=True, frozen=False, **settings):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(12, 24, bias=bias), nn.ReLU(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 3)
    )
    net[2].weight.requires_grad_(not frozen)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    settings = dict(sparsity=0.7, update_every=4, dense=("output",), seed=1) | settings
    return net, sparsify(net, SparseConfig(backend=backend, **settings), optimizer)


def train(net, engine, steps):
    for _ in range(steps):
        generator = torch.Generator().manual_seed(engine.steps)
        inputs = torch.randn(16, 12, generator=generator)
        engine.optimizer.zero_grad()
        net(inputs).square().mean().backward()
        engine.optimizer.step()


def agree(engine, other):
    for one, twin in zip(engine.tensors, other.tensors, strict=True):
        assert torch.equal(one.active(), twin.active())
        torch.testing.assert_close(one.values(), twin.values(), rtol=1e-3, atol=1e-5)
        if twin.seen() is not None:
            assert torch.equal(one.seen(), twin.seen())


@pytest.mark.parametrize("after", [0, 6])
@pytest.mark.parametrize(
    "settings",
    [
        dict(method="static"),
        dict(method="rigl", gradient_steps=3),
        dict(method="rigl", growth="adam_momentum"),
        dict(method="srigl", ablation_threshold=0.9),
        dict(method="gse", growth="sampled_grabo"),
        dict(method="set", drop="sensitivity", optimizer_state="layer_mean"),
        dict(method="mest", slack=0.5),
        dict(method="gmp", horizon=14, stop_at=1.0),
        dict(method="rigl", bias=False),
        dict(method="static", frozen=True),
    ],
)
def test_it_goes_on_as_the_masked_network_does(settings, after):
    net, engine = make("condensed", **settings)
    masked, other = make("masked", **settings)
    train(net, engine, after)
    train(masked, other, after)
    engine.use_masks()
    assert [type(layer) for layer in net[:3:2]] == [MaskedLinear] * 2
    assert engine.config == other.config
    assert [n for n, _ in net.named_parameters()] == [n for n, _ in masked.named_parameters()]
    assert net.state_dict().keys() == masked.state_dict().keys()
    assert [p.requires_grad for p in net.parameters()] == [
        p.requires_grad for p in masked.parameters()
    ]
    own = {id(parameter) for parameter in net.parameters()}
    assert {id(p) for group in engine.optimizer.param_groups for p in group["params"]} == own
    agree(engine, other)
    train(net, engine, 8)
    train(masked, other, 8)
    agree(engine, other)
    assert engine.updates == other.updates


def test_it_loads_into_the_masked_network():
    net, engine = make("condensed", method="rigl")
    train(net, engine, 6)
    engine.use_masks()
    masked, other = make("masked", method="rigl", seed=9)
    masked.load_state_dict(net.state_dict())
    agree(engine, other)


def test_masked_layers_and_embeddings_are_left_alone():
    _, engine = make("masked", method="rigl")
    tensors = list(engine.tensors)
    engine.use_masks()
    assert engine.tensors == tensors
    net = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(16, 4))
    config = SparseConfig(method="static", sparsity=0.5, embeddings=True, backend="condensed")
    engine = sparsify(net, config)
    kind = type(net[0])
    engine.use_masks()
    assert type(net[0]) is kind and type(net[2]) is MaskedLinear


def test_what_it_computes_stays():
    net, engine = make("condensed", method="srigl", ablation_threshold=0.9)
    train(net, engine, 10)
    inputs = torch.randn(32, 12)
    assert type(net[0]) is CondensedLinear
    before = net(inputs).detach()
    engine.use_masks()
    torch.testing.assert_close(net(inputs).detach(), before, rtol=1e-5, atol=1e-6)
