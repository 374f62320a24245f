"""BRF masks: nearest inputs by hand, equal fan-ins, any inputs at the other end."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.budgets.receptive_fields import ring_distances


def mask(net, **fields):
    config = SparseConfig(method="static", distribution="uniform", **fields)
    return sparsify(net, config).tensors[0].active()


def test_distances_go_round_the_ring():
    # Four inputs, two neurons: centres 0 and 2.
    assert ring_distances(2, 4).tolist() == [[0, 1, 2, 1], [2, 1, 0, 1]]
    # Three inputs, two neurons: centres 0 and 1.5.
    assert ring_distances(2, 3).tolist() == [[0, 1, 1], [1.5, 0.5, 0.5]]


def test_without_randomness_neurons_read_the_nearest_inputs():
    # Eight inputs, four neurons with centres 0 2 4 6 and three inputs each.
    found = mask(nn.Linear(8, 4), sparsity=5 / 8, receptive_field=0.0)
    expected = [[7, 0, 1], [1, 2, 3], [3, 4, 5], [5, 6, 7]]
    assert [set(row.nonzero().flatten().tolist()) for row in found] == [set(e) for e in expected]


@pytest.mark.parametrize("structure", ["unstructured", "constant_fan_in"])
@pytest.mark.parametrize("randomness", [0.0, 0.3, 1.0])
def test_neurons_have_equally_many_inputs(structure, randomness):
    found = mask(nn.Linear(20, 9), sparsity=0.8, receptive_field=randomness, structure=structure)
    counts = found.sum(1)
    assert int(counts.sum()) == 36 and int(counts.max() - counts.min()) <= 1


def test_a_budget_that_does_not_divide_is_met_exactly():
    counts = mask(nn.Linear(10, 7), sparsity=0.5, receptive_field=0.2).sum(1)
    assert int(counts.sum()) == 35
    counts = mask(nn.Linear(11, 7), sparsity=0.5, receptive_field=0.2).sum(1)
    assert int(counts.sum()) in (38, 39) and set(counts.tolist()) == {5, 6}


def test_randomness_takes_inputs_from_afar():
    near = ring_distances(64, 64)
    means = [
        float(near[mask(nn.Linear(64, 64), sparsity=0.9, receptive_field=r)].mean())
        for r in (0.0, 0.3, 0.6, 1.0)
    ]
    assert means == sorted(means)
    assert means[0] < 2 and means[-1] == pytest.approx(16, abs=2)


def test_places_of_a_convolution_are_its_channels():
    found = mask(nn.Conv2d(8, 8, 3), sparsity=0.625, receptive_field=0.0).reshape(8, 8, 9)
    assert bool((found.all(2) == found.any(2)).all())


def test_each_layer_and_each_seed_draws_for_itself():
    masks = [mask(nn.Linear(20, 20), sparsity=0.8, receptive_field=0.5, seed=s) for s in (0, 0, 1)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("wrong", [-0.1, 1.5, "near"])
def test_a_randomness_outside_its_range_is_refused(wrong):
    with pytest.raises(ValueError, match=r"receptive_field=.*must be a number in \[0, 1\]"):
        SparseConfig(receptive_field=wrong)


def test_tokens_have_no_places():
    with pytest.raises(ValueError, match="tokens of embeddings have no places"):
        SparseConfig(receptive_field=0.5, embeddings=True)
