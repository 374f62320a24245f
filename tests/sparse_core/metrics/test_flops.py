from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparse_core import registry
from sparse_core.building import sparsify
from sparse_core.config import SparseConfig
from sparse_core.metrics.flops import FlopCounter, active_weights, inference_flops, trained_weights
from sparse_core.metrics.training_flops import (
    FORMULAS,
    Cost,
    scheduled_training_flops,
    seen_by,
    training_flops,
)
from sparse_core.registry import METHODS
from sparse_core.rules import NEEDS, growth_rule

# Operations of a forward pass ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "shape", "dense"),
    [
        (nn.Linear(3, 2), (3,), 2 * 6),
        (nn.Linear(3, 2), (7, 3), 2 * 7 * 6),
        (nn.Conv1d(2, 3, 2), (2, 5), 2 * 4 * 12),
        (nn.Conv2d(4, 6, 3, padding=1), (4, 5, 5), 2 * 25 * 216),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 5, 5), 2 * 25 * 108),
        (nn.Conv2d(4, 6, 3, stride=2), (4, 5, 5), 2 * 4 * 216),
        (nn.Conv3d(1, 2, 2, stride=2), (1, 4, 4, 4), 2 * 8 * 16),
    ],
)
def test_dense_operations_by_hand(module, shape, dense):
    flops = inference_flops(module, shape)
    assert (flops.dense, flops.sparse, flops.ratio) == (dense, dense, 1.0)


def test_active_weights_cost_and_others_do_not():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False))
    flops = inference_flops(net, (4,), active={"0.weight": 5})
    assert [(x.name, x.dense, x.sparse) for x in flops.layers] == [
        ("0.weight", 24, 10),
        ("2.weight", 12, 12),
    ]
    assert (flops.dense, flops.sparse, flops.ratio) == (36, 22, 22 / 36)


def test_a_layer_that_is_called_twice_costs_twice_and_one_that_is_not_nothing():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.Linear(3, 3)
            self.unused = nn.Linear(3, 3)

        def forward(self, x):
            return self.used(self.used(x))

    flops = inference_flops(Twice(), (3,), active={"used.weight": 2, "unused.weight": 1})
    assert [(x.name, x.dense, x.sparse) for x in flops.layers] == [("used.weight", 36, 8)]


def test_several_inputs_and_a_batch():
    bilinear = TwoInputs()
    assert inference_flops(bilinear, (2,), (3,)).dense == 2 * 5 * 4
    with FlopCounter(bilinear) as counter:
        bilinear(torch.zeros(8, 2), torch.zeros(8, 3))
    assert counter.count().dense == 8 * 2 * 5 * 4
    bilinear(torch.zeros(8, 2), torch.zeros(8, 3))
    assert counter.count().dense == 8 * 2 * 5 * 4


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 4)

    def forward(self, a, b):
        return self.layer(torch.cat([a, b], 1))


def test_self_attention_by_hand():
    attention = SelfAttention(nn.MultiheadAttention(2, 1, batch_first=True))
    flops = inference_flops(attention, (5, 2), active={"attention.in_proj_weight": 6})
    assert [(x.name, x.dense, x.sparse) for x in flops.layers] == [
        ("attention.in_proj_weight", 2 * 5 * 12, 2 * 5 * 6),
        ("attention.out_proj.weight", 2 * 5 * 4, 2 * 5 * 4),
    ]
    assert flops.products == 2 * (5 * 5 * 2) * 2
    assert flops.sparse == 60 + 40 + 200


class SelfAttention(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("batch_first", [True, False])
def test_cross_attention_counts_queries_and_keys_apart(batch_first):
    attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=6, batch_first=batch_first)
    queries, keys, values = torch.zeros(2, 5, 4), torch.zeros(2, 7, 3), torch.zeros(2, 7, 6)
    if not batch_first:
        queries, keys, values = (x.transpose(0, 1) for x in (queries, keys, values))
    with FlopCounter(attention) as counter:
        attention(queries, key=keys, value=values)
    flops = counter.count()
    assert {x.name: x.dense for x in flops.layers} == {
        "q_proj_weight": 2 * 10 * 16,
        "k_proj_weight": 2 * 14 * 12,
        "v_proj_weight": 2 * 14 * 24,
        "out_proj.weight": 2 * 10 * 16,
    }
    assert flops.products == 4 * 2 * (5 * 7 * 4)


def test_an_encoder_layer_is_counted_whole():
    encoder = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    weights = 4 * 8 * 8 + 2 * 8 * 16
    flops = inference_flops(encoder, (3, 8))
    assert flops.dense - flops.products == 2 * 3 * weights


def test_counting_leaves_the_module_as_it_was():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.ReLU())
    net[2].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    inference_flops(net, (1, 4, 4))
    assert [m.training for m in net.modules()] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks for m in net.modules())


def test_an_unknown_weight_is_named():
    with pytest.raises(
        ValueError, match=r"active=\['1.weight'\]: no such weight; there are weight"
    ):
        inference_flops(nn.Linear(2, 2), (2,), active={"1.weight": 1})


def test_nothing_to_count_costs_nothing():
    flops = inference_flops(nn.BatchNorm1d(3), (3,))
    assert (flops.dense, flops.ratio) == (0, 1.0)


def test_a_sparse_network_costs_its_active_weights_and_ablated_neurons_nothing():
    net = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    engine = sparsify(net, SparseConfig(method="static", sparsity=0.5, dense=("output",)))
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[1, :3] = True
    engine.tensors[0].start(mask)
    assert active_weights(engine) == {"0.weight": 3}
    flops = inference_flops(net, (6,), active=active_weights(engine))
    assert [layer.sparse for layer in flops.layers] == [2 * 3, 2 * 8]


def test_sparse_attention_costs_its_active_weights():
    net = SelfAttention(nn.MultiheadAttention(8, 2, batch_first=True))
    engine = sparsify(net, SparseConfig(method="static", sparsity=0.75, distribution="uniform"))
    flops = inference_flops(net, (3, 8), active=active_weights(engine))
    assert [(x.name, x.sparse) for x in flops.layers] == [
        ("attention.in_proj_weight", 2 * 3 * 48),
        ("attention.out_proj.weight", 2 * 3 * 16),
    ]


def test_a_part_of_a_network_is_counted_by_its_own_names():
    actor, critic = nn.Linear(4, 4), nn.Linear(4, 4)
    policy = nn.ModuleDict({"actor": actor, "critic": critic})
    engine = sparsify(policy, SparseConfig(method="static", sparsity=0.5, distribution="uniform"))
    assert active_weights(engine) == {"actor.weight": 8, "critic.weight": 8}
    assert active_weights(engine, actor) == {"weight": 8}
    assert inference_flops(actor, (4,), active=active_weights(engine, actor)).sparse == 16


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_sparse_operations_grow_with_the_active_weights(inputs, outputs, data):
    layer = nn.Linear(inputs, outputs)
    few = data.draw(st.integers(0, inputs * outputs))
    more = data.draw(st.integers(few, inputs * outputs))
    less, greater = (inference_flops(layer, (inputs,), active={"weight": n}) for n in (few, more))
    assert 0 <= less.sparse <= greater.sparse <= less.dense == greater.dense
    assert less.sparse == 2 * few


# Operations of a training step --------------------------------------------------------------------

COST = Cost(sparse=20, dense=100, update_every=9, samples=2)
RIGL = (3 * 20 * 9 + 2 * 20 + 100) / 10
METHODS_BY_HAND = {
    "dense": 300,
    "static": 60,
    "ticket": 60,
    "ticket_reinit": 60,
    "set": 60,
    "mest": 60,
    "chts": 60,
    "ne": RIGL,
    "tar": 60,
    "rnm": 60,
    "gmp": 60,
    "one_shot": 60,
    "rigl": RIGL,
    "rigl_itop": RIGL,
    "srigl": RIGL,
    "granet": RIGL,
    "snfs": 140,
    "sr_ste": 140,
    "edge_popup": 140,
    "wsn": 140,
    "topkast": 90,
    "gse": (3 * 20 * 9 + 3 * 20 + 2 * 20) / 10,
}
FULL_COST = {"dense": dict(sparse=100)}
BACKWARD = {"topkast": 50, "sr_ste": 100, "edge_popup": 100, "wsn": 100}


@pytest.mark.parametrize("method", METHODS)
def test_training_operations_by_hand(method):
    structure = "2:4" if METHODS[method].structures == ("N:M",) else None
    config = SparseConfig(method=method, structure=structure, sparsity=0.5)
    cost = replace(COST, backward=BACKWARD.get(method), **FULL_COST.get(method, {}))
    found = training_flops(seen_by(config), cost)
    assert found == pytest.approx(METHODS_BY_HAND[method], rel=1e-15)


@pytest.mark.parametrize(
    ("settings", "operations"),
    [
        (dict(method="rigl", growth="gradient"), RIGL),
        (dict(method="rigl", growth="momentum"), 140),
        (dict(method="rigl", growth="adam_momentum"), 140),
        (dict(method="snfs", growth="gradient"), RIGL),
        (dict(method="granet", growth="adam_momentum"), 140),
        (dict(method="set", growth="unfired"), 60),
        (dict(method="set", drop="sensitivity"), 60),
        # importance multiplies sums over active weights, whose gradient is there anyway
        (dict(method="set", growth="importance"), 60),
        (dict(method="set", drop="sensitivity", growth="importance"), 60),
        (dict(method="gse", growth="sampled"), 64),
        (dict(method="gse", growth="sampled_graest"), 64),
        (dict(method="static", growth=None), 60),
    ],
)
def test_a_method_costs_what_its_growth_rule_looks_at(settings, operations):
    assert training_flops(seen_by(SparseConfig(**settings)), COST) == pytest.approx(operations)


@growth_rule()
def blind(scene):
    return scene.random("growth")


@growth_rule(needs="signals")
def hebbian(scene):
    return scene.outputs.T @ scene.inputs


@growth_rule(needs="momentum")
def steady(scene):
    return scene.gradient.abs()


def test_a_new_growth_rule_is_known_by_what_it_needs(monkeypatch):
    for name, operations in {"blind": 60, "hebbian": RIGL, "steady": 140}.items():
        monkeypatch.setitem(registry.GROWTH_RULES, "mine", f"{__name__}:{name}")
        usable = replace(registry.METHODS["rigl"], growth=("mine",))
        monkeypatch.setitem(registry.METHODS, "rigl", usable)
        config = SparseConfig(method="rigl", growth="mine")
        assert training_flops(seen_by(config), COST) == pytest.approx(operations)


def test_every_need_has_a_formula():
    assert set(NEEDS) < set(FORMULAS)


def test_a_method_can_say_itself_what_it_costs(monkeypatch):
    asks = replace(registry.METHODS["topkast"], cost="momentum")
    monkeypatch.setitem(registry.METHODS, "mine", asks)
    assert training_flops(seen_by(SparseConfig(method="mine")), COST) == 140


def test_weights_that_are_trained_are_those_that_receive_gradients():
    """Read off the gradients themselves: who gets one that is not zero."""
    for method in METHODS:
        if method == "dense":
            continue
        net = nn.Sequential(nn.Linear(8, 12))  # whose outputs are all read
        structure = "2:4" if METHODS[method].structures == ("N:M",) else None
        config = SparseConfig(
            method=method, structure=structure, sparsity=0.5, horizon=1000, seed=1
        )
        engine = sparsify(net, config, torch.optim.SGD(net.parameters(), lr=0.1))
        net(torch.randn(64, 8)).square().sum().backward()
        found = {}
        for tensor in engine.tensors:
            scores = tensor.companion("scores")
            carrier = tensor.weight if scores is None else scores
            found[tensor.name] = int((carrier.grad != 0).sum())
        assert trained_weights(engine) == found, method


def test_a_mean_over_several_gradients_pays_for_each():
    cost = Cost(sparse=20, dense=100, update_every=9, gradient_steps=4)
    assert training_flops("gradient", cost) == (3 * 20 * 6 + 4 * (2 * 20 + 100)) / 10
    assert training_flops("sample", replace(cost, samples=3)) == (3 * 20 * 10 + 4 * 3 * 20) / 10
    assert training_flops("momentum", cost) == 140


COSTS = st.builds(
    lambda dense, share, wide, every: Cost(
        sparse=dense * share, dense=dense, update_every=every, backward=dense * max(share, wide)
    ),
    st.floats(1, 1e12),
    st.floats(0.001, 1),
    st.floats(0, 1),
    st.integers(1, 10_000),
)


@settings(deadline=None)
@given(COSTS)
def test_methods_are_ordered_by_what_they_see_of_the_dense_gradient(cost):
    slack = 1 + 1e-12
    narrow = replace(cost, backward=None)
    whole = Cost(cost.dense, cost.dense)
    static, rigl, snfs = (training_flops(m, narrow) for m in ("nothing", "gradient", "momentum"))
    topkast, dense = training_flops("nothing", cost), training_flops("nothing", whole)
    assert static <= rigl * slack
    assert rigl <= snfs * slack
    assert snfs <= dense * slack
    assert static <= topkast * slack
    assert topkast <= snfs * slack
    rarer = replace(narrow, update_every=cost.update_every + 1)
    assert training_flops("gradient", rarer) <= rigl * slack


def test_gradual_pruning_costs_the_integral_of_its_cubic_schedule():
    def density(step):
        progress = min(1, max(0, (step - 200) / 600))
        return 0.1 + 0.9 * (1 - progress) ** 3

    cost = scheduled_training_flops("nothing", lambda t: Cost(100 * density(t), 100), 1000)
    sums = [sum(i**3 for i in range(600)) / 600**3]  # the cubes of the ramp
    assert cost == pytest.approx(3 * 100 * (200 + 0.1 * 800 + 0.9 * (1 + sums[0])) / 1000)


def test_a_schedule_that_does_not_change_costs_what_one_step_does():
    assert scheduled_training_flops("gradient", lambda t: COST, 7) == pytest.approx(68)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: training_flops("rigl", COST),
            "seen='rigl': must be one of nothing, active_gradient",
        ),
        (lambda: Cost(3, 2), "sparse=3: must be between 0 and dense=2"),
        (lambda: Cost(1, 2, backward=3), "backward=3: must be between sparse=1 and dense=2"),
        (lambda: Cost(1, 2, update_every=0), "update_every=0: must be an integer of at least 1"),
        (lambda: Cost(1, 2, 3, gradient_steps=4), "gradient_steps=4: must be at most update_every"),
        (lambda: Cost(1, 2, samples=-1), "samples=-1: must be at least 0"),
        (
            lambda: scheduled_training_flops("nothing", lambda t: COST, 0),
            "steps=0: must be an integer",
        ),
    ],
)
def test_bad_costs_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
