"""`backend="auto"` condenses the layers that gain by it, and never fails where masks are needed."""

from itertools import pairwise, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.layers import calibration
from sparse_core.layers.choice import (
    Candidate,
    cheapest,
    condensed_embedding_pays,
    condensed_pays,
    fastest,
    fastest_acting,
)
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.costs import Costs
from sparse_core.layers.embedding import CondensedEmbedding
from sparse_core.weights.condensed import CondensedTensor
from tests.sparse_core.networks import mlp, train
from tests.sparse_core.ties import Twins


@pytest.mark.parametrize(
    ("shape", "density", "group", "batch", "condensed"),
    [
        ((1024, 1024), 0.2, 1, 256, True),
        ((256, 256), 0.2, 1, 256, True),
        ((256, 256), 0.01, 1, 256, True),
        ((768, 3072), 0.1, 4, 256, True),
        ((128, 128), 0.2, 1, 256, True),
        ((64, 64), 0.05, 1, 256, True),
        ((32, 32), 0.05, 1, 256, False),
        ((256, 17), 0.2, 1, 256, True),
        ((256, 17), 0.1, 1, 32, False),
        ((1, 256), 0.1, 1, 256, True),
        ((1, 256), 0.1, 1, 64, False),
        ((64, 64), 0.1, 1, 64, False),
        ((256, 256), 0.05, 1, 32, True),
        ((128, 128), 0.5, 1, 64, False),
        ((128, 128), 0.5, 4, 64, True),
        ((1024, 1024), 1.0, 1, 256, False),
    ],
)
def test_the_rule_agrees_with_what_was_measured(shape, density, group, batch, condensed):
    assert condensed_pays(*shape, density, group, batch) is condensed


def test_costs_are_those_of_the_formula():
    costs = Costs(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    assert costs.masked(10, 20) == 1 + 2 * 200 + 3 * 30
    assert costs.condensed(10, 20, 0.1) == 4 + 5 * 20 + 6 * 30
    assert costs.condensed(10, 20, 0.1, [3, 4]) == 4 + 5 * 20 + 6 * 30 - 2 * 7 - 8 * 7
    assert costs.advantage(10, 20, 0.1) == 491 / 284
    assert costs.advantage(1, 1, 0.0, [1, 1]) == float("inf")


@st.composite
def paths(draw):
    """Chains of layers with costs of their own."""
    widths = draw(st.lists(st.integers(1, 9), min_size=2, max_size=6))
    densities = st.one_of(st.none(), st.floats(0, 1))
    path = [Candidate(rows, cols, draw(densities)) for cols, rows in pairwise(widths)]
    numbers = st.floats(0, 9)
    return path, [Costs(*(draw(numbers) for _ in range(8))) for _ in path]


@given(paths())
def test_no_other_choice_costs_less(drawn):
    path, costs = drawn

    def total(forms):
        spent, before = 0.0, False
        for layer, cost, condensed in zip(path, costs, forms, strict=True):
            shape = layer.rows, layer.cols
            joints = [layer.cols] if before else []
            if condensed:
                spent += cost.condensed(*shape, layer.density, joints)
            else:
                spent += cost.masked(*shape)
            before = condensed
        return spent

    possible = product(*[(False, True)[: 1 + (layer.density is not None)] for layer in path])
    chosen = cheapest(path, costs)
    assert total(chosen) <= min(map(total, possible)) * (1 + 1e-9)


def test_a_tie_is_condensed():
    equal = Costs(5.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0)
    assert cheapest([Candidate(3, 3, 0.5)] * 2, [equal] * 2) == [True, True]


@pytest.fixture
def measured_costs(monkeypatch):
    """Costs by which nothing pays, and how often they are asked for."""
    asked = []

    def costs(batch, group):
        asked.append((batch, group))
        return Costs(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)

    monkeypatch.setattr(calibration, "costs", costs)
    return asked


def test_a_clear_case_is_not_measured_and_others_are(measured_costs):
    assert condensed_pays(1024, 1024, 0.1)
    assert measured_costs == []
    assert not condensed_pays(128, 128, 0.1)
    assert measured_costs == [(256, 1)]
    large, small = Candidate(1024, 1024, 0.1, 4), Candidate(8, 1024, None)
    assert fastest([large, small], 64) == [True, False]
    assert fastest([small], 64) == [False] and len(measured_costs) == 1
    assert fastest([large, Candidate(64, 64, 0.1, 4), small], 64) == [False] * 3
    assert measured_costs[1:] == [(64, 4)] * 3


def test_several_threads_are_measured(measured_costs, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert not condensed_pays(1024, 1024, 0.1)
    assert measured_costs == [(256, 1)]


@pytest.mark.parametrize(
    ("call", "acts", "forms"),
    [
        (50_000.0, 0, [True, False]),
        (50_000.0, 1, [True, False]),  # 57,680 + 23,000 against 89,600 + 6,000 and 100,000
        (50_000.0, 2, [True, True]),  # 57,680 + 46,000 against 89,600 + 12,000 and 100,000
        (80_000.0, 1, [False, False]),  # 87,680 + 23,000 against 89,600 + 6,000 and 160,000
    ],
)
def test_single_samples_ask_for_one_form(monkeypatch, call, acts, forms):
    """A body of 64 x 64 pays condensed, its head of 6 does not."""
    costs = Costs(0.0, 20.0, 0.0, call, 0.0, 0.0, 0.0, 0.0)
    monkeypatch.setattr(calibration, "costs", lambda batch, group: costs)
    body, head = Candidate(64, 64, 0.1), Candidate(6, 64, 0.1)
    assert fastest_acting([[body], [head]], 64, acts) == [[forms[0]], [forms[1]]]
    assert fastest_acting([[body], [Candidate(6, 64, None)]], 64, 9) == [[True], [False]]


def kinds(net, **fields):
    batch = fields.pop("batch", 256)
    engine = sparsify(net, SparseConfig(backend="auto", **fields), batch=batch)
    return [isinstance(tensor, CondensedTensor) for tensor in engine.tensors]


def test_auto_chooses_layer_by_layer():
    uniform = dict(method="rigl", sparsity=0.9, distribution="uniform")
    apart = nn.Sequential(
        nn.Linear(17, 32), nn.SiLU(), nn.Linear(32, 256), nn.SiLU(), nn.Linear(256, 6)
    )
    assert kinds(apart, **uniform, batch=128) == [False, True, False]
    assert kinds(mlp(17, 64, 256, 6), **uniform, batch=8) == [False, False, False]
    assert kinds(mlp(17, 64, 256, 6).double(), **uniform) == [False, False, False]
    wide = dict(method="srigl", distribution="uniform", sparsity=0.5, batch=64)
    assert kinds(mlp(128, 128), **wide, group=4) == [True]
    assert kinds(mlp(128, 128), **wide, group=1) == [False]


def test_a_layer_is_condensed_for_the_sake_of_its_neighbours_in_a_chain():
    uniform = dict(method="rigl", sparsity=0.9, distribution="uniform")
    assert kinds(mlp(17, 64, 256, 6), **uniform) == [True, True, True]
    assert kinds(mlp(8, 16, 8), **uniform) == [False, False]
    # None of the three would alone.
    assert kinds(mlp(64, 64, 64, 64), **uniform, batch=64) == [True, True, True]
    dense_input = dict(layer_sparsity={"0": 0.0}, **uniform)
    assert kinds(mlp(512, 256, 256, 6), **dense_input) == [False, True, True]
    watched = mlp(17, 64, 64, 6)
    watched[1].register_forward_hook(lambda *args: None)
    assert kinds(watched, **uniform, batch=64) == [False, False, False]


def test_a_layer_that_is_used_twice_counts_once():
    twice = nn.Linear(256, 256)
    net = nn.Sequential(twice, nn.ReLU(), twice)
    assert kinds(net, method="rigl", sparsity=0.9, distribution="uniform") == [True]


@pytest.mark.parametrize(
    "fields",
    [
        dict(method="topkast"),
        dict(method="snfs"),
        dict(method="gse", scope="global"),
        dict(method="rigl", optimizer_state="keep"),
        dict(method="rigl", optimizer_state="freeze"),
        dict(method="srigl", group=3),
        dict(method="gmp", horizon=100),
        dict(method="dense", sparsity=0.0),
    ],
)
def test_auto_is_masked_where_masks_are_needed(fields):
    assert not any(kinds(mlp(256, 256, 256), **fields))


def test_auto_trains_as_masked_does():
    made = {}
    for backend in ("masked", "auto"):
        torch.manual_seed(0)
        net = mlp(12, 160, 160, 4)
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        config = SparseConfig(method="rigl", backend=backend, update_every=10, sparsity=0.9)
        made[backend] = sparsify(net, config, optimizer)
        train(net, optimizer, range(40))
    assert [type(m) is CondensedLinear for m in net] == [True, False, True, False, True]
    tensors = made["masked"].tensors, made["auto"].tensors
    if Twins().tensors_alike(*tensors):
        for one, other in zip(*tensors, strict=True):
            torch.testing.assert_close(one.values(), other.values(), rtol=2e-3, atol=2e-4)


def test_auto_stays_auto_in_the_canonical_form():
    assert SparseConfig(backend="auto").canonical().backend == "auto"
    assert SparseConfig().backend == "masked"


def test_an_impossible_batch_is_named():
    with pytest.raises(ValueError, match="batch=0: must be an integer of at least 1"):
        sparsify(mlp(4, 4), SparseConfig(backend="auto"), batch=0)


@pytest.mark.parametrize("backend", ["condensed", "auto"])
def test_an_encoder_layer_computes_what_the_masked_one_does(backend):
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(64, 2, 512, dropout=0.0, batch_first=True)
    twin = nn.TransformerEncoderLayer(64, 2, 512, dropout=0.0, batch_first=True)
    twin.load_state_dict(block.state_dict())
    sparsify(block, SparseConfig(method="static", backend=backend))
    sparsify(twin, SparseConfig(method="static"))
    assert type(block.linear1) is CondensedLinear
    x = torch.randn(2, 5, 64)
    torch.testing.assert_close(block(x), twin(x))
    with torch.no_grad():
        torch.testing.assert_close(block.eval()(x), twin.eval()(x))


@pytest.mark.parametrize(
    ("vocabulary", "size", "density", "tokens", "pays"),
    [
        (10, 16, 0.5, 256, False),  # 55 + 0.1 + 13 against 125 + ...
        (1000, 64, 0.5, 256, False),  # 118 against 155
        (1000, 256, 0.1, 32, True),  # 238 against 135
        (10_000, 64, 0.5, 2048, True),  # 644 against 353
        (70_000, 64, 0.2, 2048, True),
    ],
)
def test_large_embeddings_pay(vocabulary, size, density, tokens, pays):
    assert condensed_embedding_pays(vocabulary, size, density, tokens) is pays


def test_auto_condenses_large_embeddings_in_float32():
    def kind(vocabulary, dtype=torch.float32):
        net = nn.ModuleList([nn.Embedding(vocabulary, 64), nn.Linear(64, 2)]).to(dtype)
        config = SparseConfig(method="srigl", sparsity=0.8, embeddings=True, backend="auto")
        sparsify(net, config)
        return type(net[0])

    assert kind(4000) is CondensedEmbedding
    assert not issubclass(kind(50), CondensedEmbedding)
    assert not issubclass(kind(4000, torch.float64), CondensedEmbedding)
