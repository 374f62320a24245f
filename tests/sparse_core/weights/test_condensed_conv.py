"""Condensed convolutions in training: they visit the topologies of masked ones."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sparse_core import SparseConfig, sparsify
from sparse_core.layers.condensed_conv import CondensedConv2d
from tests.sparse_core.convolutions import few_patches

__all__ = ["few_patches"]

pytestmark = pytest.mark.usefixtures("few_patches")


def built(backend, seed=0, dtype=torch.float64, **fields):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(108, 5),
    ).to(dtype)  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    config = dict(sparsity=0.7, update_every=2, horizon=40, seed=1, backend=backend)
    engine = sparsify(net, SparseConfig(**config | fields), optimizer)
    return net, optimizer, engine


def train(net, optimizer, steps):
    dtype = next(net.parameters()).dtype
    for step in steps:
        random = torch.Generator().manual_seed(step)
        x = torch.randn(6, 3, 8, 8, generator=random).to(dtype)
        y = torch.randint(0, 5, (6,), generator=random)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()


FIELDS = [
    dict(method="rigl"),
    dict(method="srigl", group=4, ablation_threshold=0.9, dense=("input",)),
    dict(method="set"),
    dict(method="gse"),
    dict(method="rigl", gradient_steps=2, growth="momentum"),
    dict(method="mest"),
]


@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_both_backends_train_alike(fields):
    """In float64, where no tie is decided by rounding."""
    pairs = []
    for backend in ("masked", "condensed"):
        net, optimizer, engine = built(backend, **fields)
        train(net, optimizer, range(7))
        pairs.append(engine)
    assert {type(t.layer) for t in pairs[1].tensors[:-1]} == {CondensedConv2d}
    assert pairs[0].updates == pairs[1].updates == 3
    for masked, condensed in zip(*(engine.tensors for engine in pairs), strict=True):
        assert torch.equal(masked.active(), condensed.active())
        torch.testing.assert_close(masked.values(), condensed.values())


@pytest.mark.parametrize("group", [1, 4])
def test_gradients_of_the_kernels(group):
    found, fields = [], dict(method="srigl", dense=("input",), dtype=torch.float32)
    x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    for backend in ("masked", "condensed"):
        net, _, engine = built(backend, group=group, **fields)
        net(x).square().sum().backward()
        found.append([tensor.weight.grad for tensor in engine.tensors])
        found.append([net[i].bias.grad for i in (0, 3, 6)])
        tensors = engine.tensors
    found[0] = [t.stored(g) for t, g in zip(tensors, found[0], strict=True)]
    torch.testing.assert_close(found[0], found[2], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[1], found[3], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("there", "here"), [("masked", "condensed"), ("condensed", "masked")])
def test_a_state_of_the_other_backend_brings_topology_and_moments(there, here):
    fields = dict(method="rigl", gradient_steps=2)
    net, optimizer, engine = built(there, **fields)
    train(net, optimizer, range(5))
    other, new, twin = built(here, seed=3, **fields)
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    new.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one in ((net, optimizer), (other, new)):
        train(*one, range(5, 9))
    for ours, theirs in zip(twin.tensors, engine.tensors, strict=True):
        assert torch.equal(ours.active(), theirs.active())
        torch.testing.assert_close(ours.values(), theirs.values())
        assert torch.equal(ours.seen(), theirs.seen())


def test_copies_and_resumed_runs_are_bit_equal():
    net, optimizer, _ = built("condensed", method="rigl", dtype=torch.float32)
    train(net, optimizer, range(3))
    state = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    train(net, optimizer, range(3, 6))
    again, new, _ = built("condensed", seed=9, method="rigl", dtype=torch.float32)
    again.load_state_dict(state[0])
    new.load_state_dict(state[1])
    train(again, new, range(3, 6))
    for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    x = torch.randn(5, 3, 8, 8)
    net.eval()
    assert torch.equal(copy.deepcopy(net)(x), net(x))


def test_averages_and_targets():
    net, optimizer, engine = built("condensed", method="rigl", dtype=torch.float32)
    average, target = AveragedModel(net), built("masked", method="dense")[0].float()
    engine.follow(target)
    train(net, optimizer, range(4))
    average.update_parameters(net)
    x = torch.randn(5, 3, 8, 8)
    net.eval(), average.eval(), target.eval()
    torch.testing.assert_close(average(x), net(x), rtol=1e-3, atol=1e-4)
    target.load_state_dict(net.state_dict())
    assert torch.equal(target(x), net(x))


def test_frozen_values_get_no_gradient():
    net, _, _ = built("condensed", method="static", dtype=torch.float32)
    net[0].values.requires_grad_(False)
    net(torch.randn(5, 3, 8, 8)).sum().backward()
    assert net[0].values.grad is None and net[0].bias.grad is not None
    assert net[3].values.grad is not None
