"""What the methods are for: on MNIST, moving the topology beats leaving it as it was drawn."""

import numpy as np
import pytest
import torch

from sparse_core import SparseConfig
from sweeps.bench.mnist import METHODS, load, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEEDS = range(5)
EPOCHS = 10


@pytest.fixture(scope="module")
def accuracies(mnist):
    torch.set_num_threads(1)
    data = load(mnist)

    def accuracy(sparsity, name, seed):
        config = SparseConfig(sparsity=sparsity, seed=seed, **METHODS[name])
        return run(data, config, seed, EPOCHS)["accuracy"]

    return {
        (sparsity, name): np.array([accuracy(sparsity, name, seed) for seed in SEEDS])
        for sparsity in (0.9, 0.98)
        for name in ("static", "set", "rigl", "srigl")
    }


@pytest.mark.parametrize("sparsity", [0.9, 0.98])
@pytest.mark.parametrize("method", ["set", "rigl", "srigl"])
def test_moving_the_topology_beats_a_static_one(accuracies, sparsity, method):
    difference = accuracies[sparsity, method] - accuracies[sparsity, "static"]
    assert difference.mean() > 0.1


def test_gradient_growth_beats_random_growth_at_high_sparsity(accuracies):
    assert (accuracies[0.98, "rigl"] - accuracies[0.98, "set"]).mean() > 0


@pytest.mark.parametrize("sparsity", [0.9, 0.98])
def test_constant_fan_in_costs_little(accuracies, sparsity):
    difference = accuracies[sparsity, "srigl"] - accuracies[sparsity, "rigl"]
    assert abs(difference.mean()) < 0.4
