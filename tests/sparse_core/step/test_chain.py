"""Chains against autograd, trainers against torch's optimizers."""

from __future__ import annotations

import copy
import itertools
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, optim, sparsify
from sparse_core.kernels import checked
from sparse_core.layers.residual import Residual
from sparse_core.step import CannotCompile, Chain, Shape, Trainer

CLOSE = 2e-6


def network(backend="condensed", activation=nn.ReLU, group=1, sizes=(11, 33, 18, 5)):
    """A sparse network and the names of its parts."""
    torch.manual_seed(3)
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    net = nn.Sequential(*layers[:-1])
    rules = {"method": "srigl", "sparsity": 0.6, "update_every": 1000, "group": group}
    sparsify(net, SparseConfig(backend=backend, **rules))
    return net


def close(mine, theirs):
    theirs = np.asarray(theirs)
    return np.abs(mine - theirs).max() <= CLOSE * max(np.abs(theirs).max(), 1e-9)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU])
@pytest.mark.parametrize(("backend", "group"), [("condensed", 1), ("condensed", 4), ("masked", 1)])
@pytest.mark.parametrize("first", [None, 0, 7])
def test_gradients_are_those_of_autograd(backend, group, activation, first):
    batch = 7
    net = network(backend, activation, group)
    x = torch.randn(batch, 11, requires_grad=True)
    weight = torch.randn(batch, 5)
    chain = Chain(net, Shape.of(batch), "net")
    out = checked.unpack(chain.forward(checked.pack(x.detach().numpy())), batch)
    expected = net(x)
    assert close(out, expected.detach())
    (expected * weight).sum().backward()
    signal = checked.pack(weight.numpy())
    found = chain.backward(signal, first=first)
    if first is None:
        assert found is None
    else:
        assert close(checked.unpack(np.ascontiguousarray(found), batch), x.grad[:, first:])
    for parameter, gradient in chain.gradients():
        assert close(gradient, parameter.grad.reshape(-1))


def simba(width=32):
    """SimBa's critic: Dense, a block, LayerNorm, head; sparse but for the head."""
    torch.manual_seed(0)
    block = Residual(
        nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
    )
    net = nn.Sequential(nn.Linear(11, width), block, nn.LayerNorm(width), nn.Linear(width, 1))
    with torch.no_grad():
        for norm in (block.inner[0], net[2]):
            norm.weight.normal_(1, 0.3), norm.bias.normal_(0, 0.3)
    return net


def bro(width=32):
    """BRO's block, whose branch ends in a LayerNorm, between others whose branch ends in GELU."""
    torch.manual_seed(0)
    inner = nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU()
    return nn.Sequential(
        nn.Linear(11, width),
        nn.LayerNorm(width, elementwise_affine=False),
        nn.ReLU(),
        Residual(*inner, nn.Linear(width, width), nn.LayerNorm(width, bias=False)),
        Residual(nn.Linear(width, width), nn.GELU("tanh")),
        Residual(nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, 3),
    )


@pytest.mark.parametrize("make", [simba, bro])
@pytest.mark.parametrize("backend", ["condensed", "masked"])
@pytest.mark.parametrize("first", [None, 0, 7])
def test_residual_networks_are_chains(make, backend, first):
    net, batch = make(), 37
    rules = {"method": "srigl", "sparsity": 0.7, "update_every": 1000}
    sparsify(net, SparseConfig(backend=backend, **rules))
    x = torch.randn(batch, 11, requires_grad=True)
    expected = net(x)
    weight = torch.randn_like(expected)
    chain = Chain(net, Shape.of(batch), "net")
    assert close(
        checked.unpack(chain.forward(checked.pack(x.detach().numpy())), batch), expected.detach()
    )
    (expected * weight).sum().backward()
    found = chain.backward(checked.pack(weight.numpy()), first=first)
    if first is not None:
        assert close(checked.unpack(np.ascontiguousarray(found), batch), x.grad[:, first:])
    pairs = chain.gradients()
    assert {id(parameter) for parameter, _ in pairs} == {id(p) for p in net.parameters()}
    for parameter, gradient in pairs:
        assert close(gradient, parameter.grad.reshape(-1))
    for parameter in net.parameters():
        parameter.data = parameter.data.clone()
    assert not chain.holds()
    chain.bind()
    assert chain.holds()


def test_without_training_parameters_keep_their_gradients():
    net, batch = network(), 9
    chain = Chain(net, Shape.of(batch), "net")
    x = checked.pack(np.random.default_rng(0).standard_normal((batch, 11)).astype(np.float32))
    chain.forward(x)
    chain.signal[:] = 1
    chain.backward(train=False, first=0)
    assert all(not gradient.any() for _, gradient in chain.gradients())


def test_gradients_of_the_first_of_two_batches():
    net, batch = network(), 8
    one, two = Chain(net, Shape.of(batch), "net"), Chain(net, Shape.of(batch, 2), "net")
    x = np.random.default_rng(0).standard_normal((2 * batch, 11)).astype(np.float32)
    single = one.forward(checked.pack(x[:batch]))
    both = two.forward(checked.pack(x, tile=one.shape.tile))
    assert np.array_equal(both[: one.shape.tiles], single)
    for chain in (one, two):
        chain.signal[:] = 0.5
        chain.backward()
    pairs = zip(one.gradients(), two.gradients(), strict=True)
    assert all(np.array_equal(mine, theirs) for (_, mine), (_, theirs) in pairs)


def test_another_topology_is_found_and_bound():
    net, batch = network(), 8
    engine = net.sparse_engine
    optimizer = torch.optim.Adam(net.parameters())
    engine.attach(optimizer)
    chain = Chain(net, Shape.of(batch), "net")
    assert chain.holds()
    x = torch.randn(batch, 11)
    engine._gradients.arm(engine.tensors, 999, engine._schedule, None)
    net(x).square().sum().backward()
    engine.update()
    assert not chain.holds()
    chain.bind()
    assert chain.holds()
    assert close(checked.unpack(chain.forward(checked.pack(x.numpy())), batch), net(x).detach())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda net: net.double(), "net.0 is torch.float64"),
        (lambda net: net.insert(1, nn.Mish()), "net.1 is a Mish"),
        (lambda net: net.append(nn.Dropout(0.5)), "net.5 is a Dropout"),
        (lambda net: net[2].register_forward_hook(print), "net.2 has hooks"),
        (lambda net: net.register_forward_pre_hook(print), "net has hooks"),
        (lambda net: net.append(nn.Bilinear(5, 5, 2)), "net.5 is a Bilinear"),
        (lambda net: net.append(nn.Linear(5, 1 << 14)), "is dense and has 81920 weights"),
    ],
)
def test_what_it_does_not_know_is_refused(change, reason):
    net = network()
    change(net)
    with pytest.raises(CannotCompile, match=reason):
        Chain(net, Shape.of(8), "net")


OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "our adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.3),
    "our sgd": lambda p: optim.SGD(p, lr=0.01, momentum=0.9),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}


class Still(NamedTuple):
    """A layer with ablated neurons, as far as trainers are concerned."""

    bias: np.ndarray
    dead: np.ndarray


@pytest.mark.parametrize("polyak", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_torch(name, polyak, fixed):
    torch.manual_seed(0)
    mine = [nn.Parameter(torch.randn(37)), nn.Parameter(torch.randn(5))]
    theirs = [nn.Parameter(p.detach().clone()) for p in mine]
    targets = [torch.randn_like(p) for p in mine] if polyak else []
    expected = [target.clone() for target in targets]
    optimizers = [OPTIMIZERS[name](each) for each in (mine, theirs)]
    for each in (mine, theirs):
        for parameter in each:
            parameter.grad = torch.ones_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    gradients = [np.zeros(p.numel(), np.float32) for p in mine]
    still = [Still(mine[1].detach().numpy(), np.array([1, 3]))] if fixed else []
    trainer = Trainer(optimizers[0], list(zip(mine, gradients, strict=True)), targets, still)
    for _ in range(3):
        kept = theirs[1].detach()[[1, 3]].clone()
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = torch.randn_like(parameter)
            gradient[:] = parameter.grad.numpy()
        optimizers[1].step()
        if fixed:
            theirs[1].data[[1, 3]] = kept
        for target, parameter in zip(expected, theirs, strict=False):
            target.lerp_(parameter.detach(), 0.1)
        assert trainer.holds()
        trainer.step(0.1)
        for one, other in zip([*mine, *targets], [*theirs, *expected], strict=True):
            assert close(one.detach().numpy(), other.detach().numpy())
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    for index, state in states[1].items():
        assert states[0][index].keys() == state.keys()
        for key, value in state.items():
            if torch.is_tensor(value):
                assert close(states[0][index][key].numpy(), value.numpy()), key


def test_a_loaded_state_is_seen():
    parameter = nn.Parameter(torch.randn(6))
    optimizer = torch.optim.Adam([parameter])
    gradients = [(parameter, np.zeros(6, np.float32))]
    with pytest.raises(CannotCompile, match="has not begun its state"):
        Trainer(optimizer, gradients)
    parameter.grad = torch.ones(6)
    optimizer.step()
    trainer = Trainer(optimizer, gradients)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert not trainer.holds()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: torch.optim.Adagrad([p]), "Adagrad is an optimizer without a kernel"),
        (lambda p: torch.optim.Adam([p], capturable=True), "Adam has capturable=True"),
        (lambda p: torch.optim.SGD([p], differentiable=True), "SGD has differentiable=True"),
        (lambda p: torch.optim.Adam([p, nn.Parameter(torch.ones(1))]), "trains other parameters"),
    ],
)
def test_an_optimizer_it_does_not_know_is_refused(make, reason):
    parameter = nn.Parameter(torch.randn(6))
    with pytest.raises(CannotCompile, match=reason):
        Trainer(make(parameter), [(parameter, np.zeros(6, np.float32))])
