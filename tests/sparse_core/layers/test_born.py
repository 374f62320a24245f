"""Layers that are born sparse: without a dense matrix at any moment."""

from __future__ import annotations

import copy
import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.checks import InputError
from sparse_core.kernels.draws import draw_outside, random_pattern
from sparse_core.kernels.format import GROUPS, Pattern
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.metrics.topology import exploration

FAN_IN = {"method": "set", "fan_in": 4, "backend": "condensed", "update_every": 2}


@given(
    st.integers(1, 40), st.integers(1, 60), st.sampled_from(GROUPS), st.data(), st.integers(0, 99)
)
def test_a_random_pattern_has_distinct_columns_in_each_group(inputs, outputs, group, data, seed):
    fan_in = data.draw(st.integers(1, inputs))
    lengths = np.full(-(-outputs // group), fan_in)
    pattern = random_pattern(inputs, outputs, lengths, group, seed)
    pattern.check()
    assert pattern.fan_in == fan_in and not pattern.absent.size
    assert pattern.same(random_pattern(inputs, outputs, lengths, group, seed))


def lists_of(what, length):
    return st.lists(what, min_size=length, max_size=length)


@given(st.integers(1, 30), st.integers(1, 20), st.data(), st.integers(0, 99))
def test_draws_avoid_what_is_taken_and_take_all_where_few_are_free(inputs, outputs, data, seed):
    mask = data.draw(lists_of(lists_of(st.booleans(), inputs), outputs))
    pattern = Pattern.from_mask(np.array(mask, np.bool_))
    slots = pattern.slots
    taken = np.array(data.draw(lists_of(st.booleans(), slots)), np.bool_)
    counts = np.array(data.draw(lists_of(st.integers(0, inputs), outputs)))
    places = draw_outside(pattern, taken, counts, seed)
    rows, columns, _ = pattern.coordinates()
    held = set((rows * inputs + columns)[taken].tolist())
    assert (np.diff(places) > 0).all() and not held & set(places.tolist())
    of_rows = np.bincount(rows[taken], minlength=outputs)
    drawn = np.bincount(places // inputs, minlength=outputs)
    assert np.array_equal(drawn, np.minimum(counts, inputs - of_rows))


def test_draws_are_uniform_both_where_much_is_free_and_where_little_is():
    pattern = Pattern.from_mask(np.eye(10, dtype=np.bool_)[[0] * 20_000])
    for count in (2, 6):
        counts = np.full(20_000, count)
        places = draw_outside(pattern, np.ones(20_000, np.bool_), counts, 7)
        found = np.bincount(places % 10, minlength=10)
        expected, spread = 20_000 * count / 9, np.sqrt(20_000 * count / 9 * (1 - count / 9))
        assert found[0] == 0 and (abs(found[1:] - expected) < 5 * spread).all()


def test_a_block_of_lanes_draws_what_all_lanes_draw(monkeypatch):
    lengths = np.arange(1, 11)
    whole = random_pattern(12, 10, lengths, 1, 3)
    monkeypatch.setattr("sparse_core.kernels.draws._LANES", 3)
    assert whole.same(random_pattern(12, 10, lengths, 1, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("group", [1, 4])
def test_a_born_layer_computes_and_trains_like_its_dense_weight(group, dtype):
    layer = CondensedLinear(12, 6, fan_in=3, group=group, seed=1, dtype=dtype)
    x = torch.randn(5, 12, dtype=dtype)
    weight = layer.dense_weight().requires_grad_()
    expected = nn.functional.linear(x, weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)
    layer(x).square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(layer.values.grad.sum(), (weight.grad * layer.mask()).sum())
    assert layer.mask().sum(1).tolist() == [3] * 6
    assert "fan" not in repr(layer) and "active=18" in repr(layer)


def test_born_weights_have_the_variance_that_scaled_ones_have():
    layer = CondensedLinear(50, 2000, fan_in=8)
    assert layer.values.abs().max() <= 8**-0.5
    assert layer.values.var().item() == pytest.approx(1 / (3 * 8), rel=0.05)
    other = CondensedLinear(50, 2000, fan_in=8, seed=1)
    assert not torch.equal(layer.columns, other.columns)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(fan_in=13), "fan_in=13: must be at most 12, the inputs"),
        (dict(fan_in=0), "fan_in=0: must be an integer of at least 1"),
        (dict(fan_in=3, group=3), "group=3: "),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        CondensedLinear(12, 6, **arguments)


def born(kind: str) -> nn.Sequential:
    torch.manual_seed(0)
    if kind == "condensed":
        layers = CondensedLinear(12, 8, fan_in=4), nn.ReLU(), CondensedLinear(8, 10, fan_in=4)
        return nn.Sequential(*layers)
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 10))


def steps(net: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for step in range(count):
        x = torch.randn(6, 12, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (net(x) - 1).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", ["condensed", "meta"])
@pytest.mark.parametrize("before", [True, False], ids=["optimizer first", "optimizer last"])
def test_born_networks_train_with_an_optimizer_from_before_or_after(kind, before):
    net = born(kind)
    optimizer = torch.optim.Adam(net.parameters()) if before else None
    engine = sparsify(net, SparseConfig(**FAN_IN), optimizer)
    if optimizer is None:
        optimizer = torch.optim.Adam(net.parameters())
        engine.attach(optimizer)
    state = copy.deepcopy(net.state_dict())
    steps(net, optimizer, 4)
    assert engine.updates == 2 and "fan-in 4" in repr(engine)
    assert all((tensor.active().sum(1) == 4).all() for tensor in engine.tensors)
    for name, value in net.named_parameters():
        assert not value.is_meta and not torch.equal(value, state[name])
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in net.parameters()}


def test_a_checkpoint_of_a_born_network_goes_on_as_if_never_interrupted():
    net, whole = born("meta"), born("meta")
    runs = []
    for each in (net, whole):
        optimizer = torch.optim.SGD(each.parameters(), 0.1)
        sparsify(each, SparseConfig(**FAN_IN), optimizer)
        steps(each, optimizer, 3)
        runs.append(optimizer)
    kept = io.BytesIO()
    torch.save(net.state_dict(), kept)
    kept.seek(0)
    again = born("meta")
    optimizer = torch.optim.SGD(again.parameters(), 0.1)
    sparsify(again, SparseConfig(**FAN_IN), optimizer)
    again.load_state_dict(torch.load(kept))
    steps(again, optimizer, 5)
    steps(whole, runs[1], 5)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_fan_in_means_the_same_for_layers_that_were_dense():
    net = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 10))
    engine = sparsify(net, SparseConfig(method="srigl", fan_in=4))
    assert all((tensor.active().sum(1) == 4).all() for tensor in engine.tensors)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("meta", dict(fan_in=9), "fan_in=9: layer '2.weight' has 8 inputs"),
        ("meta", dict(backend="masked"), "'0.weight': was born sparse, which needs backend="),
        ("meta", dict(method="rigl", fan_in=None), "needs structure='constant_fan_in'"),
        ("meta", dict(dense=("output",)), "parameter '2.weight': is on the meta device"),
        ("meta", dict(receptive_field=0.5), "receptive_field must be None"),
        ("condensed", dict(fan_in=3), "its fan-in is 4, fan_in=3 says otherwise"),
        ("condensed", dict(group=2), "groups have 1 neurons, group=2 says otherwise"),
    ],
)
def test_what_born_layers_cannot_have_is_said_in_one_line(kind, fields, message):
    with pytest.raises(InputError, match=message) as error:
        sparsify(born(kind), SparseConfig(**(FAN_IN | fields)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(sparsity=0.5), "fan_in=4: sparsity=0.5 says the same in another way"),
        (dict(method="rigl", structure="unstructured"), "needs structure constant_fan_in"),
        (dict(method="snfs"), "needs structure constant_fan_in, not unstructured"),
        (dict(initial_sparsity=0.2), "fan_in=4: method 'set' needs a sparsity"),
        (dict(dense_in_budget=True), "fan_in=4: dense_in_budget needs a sparsity"),
        (dict(fan_in=0), "fan_in=0: must be an integer of at least 1"),
    ],
)
def test_fan_in_and_what_contradicts_it(fields, message):
    with pytest.raises(InputError, match=message):
        SparseConfig(**(FAN_IN | fields))


def test_configurations_of_one_meaning_are_one():
    one = SparseConfig(method="set", fan_in=4, min_fan_in=3, distribution="uniform")
    other = SparseConfig(method="set", fan_in=4, structure="constant_fan_in")
    assert one.canonical() == other.canonical()


def test_large_layers_do_not_remember_what_was_ever_active(monkeypatch):
    monkeypatch.setattr("sparse_core.weights.condensed.REMEMBERED_BELOW", 90)
    engine = sparsify(born("meta"), SparseConfig(**FAN_IN))
    assert [tensor.seen() is None for tensor in engine.tensors] == [True, False]
    assert list(exploration(engine).layers) == ["2.weight"]


MEMORY = """
import resource, torch
from torch import nn
from sparse_core import SparseConfig, sparsify
from sparse_core.layers.condensed import CondensedLinear
CondensedLinear(20, 20, fan_in=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.device("meta"):
    net = nn.Linear(30_000, 30_000)
sparsify(net, SparseConfig(method="set", fan_in=16, backend="condensed"))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_lazy_layers_that_ran_on_the_meta_device_are_born():
    with torch.device("meta"):
        net = nn.Sequential(nn.LazyLinear(1 << 12), nn.ReLU(), nn.LazyLinear(1 << 22))
        net(torch.empty(1, 1 << 21))  # 34 GB of weights in the first layer alone
    engine = sparsify(net[:1], SparseConfig(**FAN_IN | {"fan_in": 1}))
    assert (net[0].in_features, engine.tensors[0].count()) == (1 << 21, 1 << 12)
    assert all(parameter.is_meta for parameter in net[2].parameters())


def test_lazy_layers_that_have_not_run_are_told_how():
    with torch.device("meta"):
        net = nn.Sequential(nn.LazyLinear(8))
    with pytest.raises(
        InputError, match="unknown until it has run once, which is free on the meta device"
    ):
        sparsify(net, SparseConfig(**FAN_IN))


def test_birth_needs_memory_for_the_active_weights_only():
    """A matrix of 30,000 x 30,000 takes 3,433 MiB as floats, 107 MiB as bits; 480,000 weights 2."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 60
