"""A network saved in one form goes on in the other, moments of its optimizer included."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify

OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
}


def make(backend, optimizer, group=1, seed=1):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 9), nn.Tanh(), nn.Linear(9, 3))
    made = OPTIMIZERS[optimizer](net.parameters())
    config = SparseConfig(
        backend=backend, method="srigl", sparsity=0.7, update_every=4, dense=("output",),
        seed=seed, group=group, ablation_threshold=0.9,
    )  # fmt: skip
    return net, sparsify(net, config, made)


def train(net, engine, steps):
    for _ in range(steps):
        inputs = torch.randn(16, 12, generator=torch.Generator().manual_seed(engine.steps))
        engine.optimizer.zero_grad()
        net(inputs).square().mean().backward()
        engine.optimizer.step()


def moments(engine, tensor):
    """Moments of active weights, in the order of the matrix."""
    state = engine.optimizer.state[tensor.weight]
    placed = tensor.active()
    matrices = [v for v in state.values() if v.shape == tensor.weight.shape]
    if tensor.weight.dim() == 1:
        pattern = tensor.layer.pattern
        matrices = [torch.from_numpy(pattern.expand(v.numpy())) for v in matrices]
    assert matrices and all(m.shape == placed.shape for m in matrices)
    return [m[placed] for m in matrices]


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("there", "here"), [("masked", "condensed"), ("condensed", "masked")])
def test_it_goes_on_as_it_would_have(there, here, optimizer, group):
    net, engine = make(there, optimizer, group)
    train(net, engine, 6)
    saved = copy.deepcopy((net.state_dict(), engine.optimizer.state_dict()))
    twin, other = make(here, optimizer, group, seed=5)
    twin.load_state_dict(saved[0])
    other.config = replace(engine.config, backend=here)
    other.optimizer.load_state_dict(saved[1])
    for one, two in zip(engine.tensors, other.tensors, strict=True):
        assert torch.equal(one.active(), two.active())
        for a, b in zip(moments(engine, one), moments(other, two), strict=True):
            assert torch.equal(a, b)
    train(net, engine, 7)
    train(twin, other, 7)
    assert engine.updates == other.updates == 3
    for one, two in zip(engine.tensors, other.tensors, strict=True):
        assert torch.equal(one.active(), two.active())
        torch.testing.assert_close(one.values(), two.values(), rtol=1e-3, atol=1e-5)


def test_moments_of_the_same_form_stay_and_the_saved_ones_are_not_touched():
    net, engine = make("masked", "adam")
    train(net, engine, 3)
    twin, other = make("condensed", "adam")
    saved = engine.optimizer.state_dict()
    before = copy.deepcopy(saved)
    twin.load_state_dict(net.state_dict())
    other.optimizer.load_state_dict(saved)
    for number, entry in before["state"].items():
        for key, value in entry.items():
            assert torch.equal(saved["state"][number][key], value)
    own = copy.deepcopy(other.optimizer.state_dict())
    other.optimizer.load_state_dict(own)
    for number, entry in own["state"].items():
        for key, value in entry.items():
            assert torch.equal(other.optimizer.state_dict()["state"][number][key], value)
