"""CHTs: link prediction by hand and by its definition, draws, one update of each backend."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_core import SparseConfig, sparsify
from sparse_core.naming import drop_rule_named, growth_rule_named
from sparse_core.updaters.epitopology import ch2_l3n, drawn
from sparse_core.updaters.scene import Moment, Scene
from tests.sparse_core.networks import mlp, train

LINKS = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]).bool()

# Neuron 3 reads input 3. Inputs and neurons between it and input 2: input 3, linked to the neurons
# 1 and 2, which read input 2, and to none else: (1 + 2) / 1. Neuron 1, linked to input 3, and to
# input 1 outside: (1 + 1) / (1 + 1). Neuron 2, linked to input 3 and to none outside: 2. In all 6.
TABLE = {(0, 2): 3, (0, 3): 3, (1, 0): 4, (2, 0): 0, (2, 1): 6, (3, 0): 0, (3, 1): 2, (3, 2): 6}


def test_link_prediction_by_hand():
    scores = ch2_l3n(LINKS)
    inactive = {(int(i), int(j)): float(scores[i, j]) for i, j in (~LINKS).nonzero()}
    assert inactive == TABLE


def by_definition(links, u, v):
    """CH2-L3n of neuron u and input v, from the paths between them."""
    rows, cols = links.shape
    inputs = {j for j in range(cols) if links[u, j]}
    neurons = {i for i in range(rows) if links[i, v]}
    pairs = [(i, j) for i in neurons for j in inputs if links[i, j]]
    total = 0.0
    for i in {i for i, _ in pairs}:
        own = {j for j in range(cols) if links[i, j]}
        total += (1 + len(own & inputs)) / (1 + len(own - inputs - {v}))
    for j in {j for _, j in pairs}:
        own = {i for i in range(rows) if links[i, j]}
        total += (1 + len(own & neurons)) / (1 + len(own - neurons - {u}))
    return total


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 7), st.floats(0.1, 0.9))
@settings(max_examples=30, deadline=None)
def test_link_prediction_is_what_its_definition_says(seed, rows, cols, density):
    generator = torch.Generator().manual_seed(seed)
    links = torch.rand(rows, cols, generator=generator) < density
    scores = ch2_l3n(links)
    for u, v in (~links).nonzero().tolist():
        assert float(scores[u, v]) == pytest.approx(by_definition(links, u, v))


def scene(weight):
    rows, cols = weight.shape
    engine = sparsify(mlp(cols, rows, 2), SparseConfig(method="chts", sparsity=0.5))
    tensor = engine.tensors[0]
    tensor.start(weight != 0)
    with torch.no_grad():
        tensor.weight.copy_(weight)
    return Scene(tensor, Moment(1, 0, 0.5), tensor.active())


def test_unlinked_communities_come_last_and_never_in_one_order():
    here = scene(LINKS.float())
    scores = growth_rule_named("epitopological")(here)
    assert all(float(scores[place]) == score for place, score in TABLE.items() if score)
    zeros = [float(scores[k]) for k, n in TABLE.items() if not n]
    assert all(-1 <= score < 0 for score in zeros) and len(set(zeros)) == len(zeros)


def test_draws_are_in_proportion_to_the_scores():
    here = scene(torch.ones(1, 3))
    scores = torch.tensor([[1.0, 3.0, 0.0]], dtype=torch.float64)
    first = [
        int(drawn(scores, replace(here, moment=Moment(1, update, 0.5)), "drop").argmax())
        for update in range(800)
    ]
    assert first.count(1) / len(first) == pytest.approx(3 / 4, abs=0.06)
    assert first.count(2) == 0


def test_what_stays_is_drawn_by_magnitude_to_a_power_that_rises_to_three():
    here = scene(torch.tensor([[1.0, 2.0]]))
    rule = drop_rule_named("soft_magnitude")
    for progress, odds in ((0.0, 2.0), (0.5, 4.0), (1.0, 8.0)):
        moments = [Moment(1, update, 0.5, progress=progress) for update in range(600)]
        kept = [int(rule(replace(here, moment=moment)).argmax()) for moment in moments]
        assert kept.count(1) / 600 == pytest.approx(odds / (1 + odds), abs=0.07)


def test_growth_looks_at_the_network_that_the_drop_leaves():
    # Of neuron 1's weights 0.1 goes, and with it all paths to input 3: (3, 1) and (3, 2) are none.
    weight = LINKS.float()
    weight[1, 3] = 0.1
    engine = sparsify(
        mlp(4, 4, 2),
        SparseConfig(method="chts", sparsity=0.5, growth="epitopological", drop="magnitude"),
    )
    tensor = engine.tensors[0]
    tensor.start(LINKS)
    with torch.no_grad():
        tensor.weight.copy_(weight)
    tensor.budget = 8
    delta = engine.updater.propose([tensor], Moment(1, 0, 0.125))[0]
    left = LINKS.clone()
    left[1, 3] = False
    scores = ch2_l3n(left).masked_fill(left, -1)
    assert delta.dropped.tolist() == [7]
    assert delta.grown.tolist() == [int(scores.flatten().argmax())]


@pytest.mark.parametrize("structure", [None, "constant_fan_in", "2:4"])
def test_masked_and_condensed_visit_the_same_topologies(structure):
    masks = {}
    for backend in ("masked", "condensed"):
        torch.manual_seed(0)
        net = mlp(12, 16, 16, 4).double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        config = SparseConfig(
            method="chts", sparsity=0.5, structure=structure, update_every=2, horizon=12,
            receptive_field=0.25, backend=backend,
        )  # fmt: skip
        engine = sparsify(net, config, optimizer)
        train(net, optimizer, range(8))
        assert engine.updates == 4
        masks[backend] = [tensor.active() for tensor in engine.tensors]
    assert all(map(torch.equal, masks["masked"], masks["condensed"]))
