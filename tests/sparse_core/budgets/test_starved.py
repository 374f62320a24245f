"""Input layers that constant fan-in starves are warned of; those that it serves are not."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from tests.sparse_core.networks import mlp

SRIGL = dict(method="srigl", distribution="uniform")

STARVED = [
    # 17 inputs, 256 neurons: 43.5 weights at 99 %, and what the larger layers can pay.
    (
        (17, 256, 256, 6),
        dict(sparsity=0.99),
        "'0.weight': neurons read 2 of 17 inputs. Keep them dense",
    ),
    # 102 weights are 13 columns of 8 neurons, 4 of one group and 3 of each other.
    (
        (64, 32, 4),
        dict(sparsity=0.95, group=8, min_fan_in=1),
        "'0.weight': neurons read 4 of 64 inputs, 51 inputs are read by none. Keep",
    ),
]


@pytest.mark.parametrize(("sizes", "fields", "message"), STARVED)
def test_starved_input_layers_are_named(sizes, fields, message):
    with pytest.warns(UserWarning, match="starves input layers: ") as caught:
        sparsify(mlp(*sizes), SparseConfig(**SRIGL | fields))
    assert message in str(caught[0].message)
    assert caught[0].filename == __file__


SERVED = [
    ((17, 256, 256, 6), dict(sparsity=0.95)),
    ((17, 256, 256, 6), dict(sparsity=0.99, min_fan_in=1)),
    ((17, 256, 256, 6), dict(sparsity=0.99, dense=("input",))),
    ((17, 256, 256, 6), dict(sparsity=0.99, method="rigl")),
    ((4, 64, 64, 2), dict(sparsity=0.9)),
]


@pytest.mark.parametrize(("sizes", "fields"), SERVED)
def test_others_are_not(sizes, fields):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparsify(mlp(*sizes), SparseConfig(**SRIGL | fields))


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_small_inputs_survive_and_what_ablation_frees_is_spent(backend):
    # 4 x 32 + 32 x 32 + 32 x 2 at 75 %: each neuron reads all that there is, the total is exact.
    torch.manual_seed(0)
    net = mlp(4, 32, 32, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    config = SparseConfig("srigl", 0.75, update_every=2, ablation_threshold=0.9, backend=backend)
    engine = sparsify(net, config, optimizer)
    first, hidden, _ = engine.tensors
    assert first.active().all()
    for step in range(12):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(16, 4, generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
        optimizer.step()
        assert sum(tensor.count() for tensor in engine.tensors) == round(0.25 * (128 + 1024 + 64))
    fan_in = hidden.active().sum(1)
    assert (fan_in == 0).any() and fan_in.max() - fan_in[fan_in > 0].min() <= 1
