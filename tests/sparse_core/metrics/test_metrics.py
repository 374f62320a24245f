import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparse_core.building import sparsify
from sparse_core.config import SparseConfig
from sparse_core.metrics import (
    Bytes,
    Change,
    Overlap,
    TopologyMeter,
    condensed_bytes,
    density,
    exploration,
    memory,
    neurons,
    overall,
    overlap,
)
from sparse_core.updaters.scene import Moment
from sparse_core.weights.delta import Delta

MASKS = st.integers(1, 6).flatmap(
    lambda n: st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n) for _ in range(2)])
)


def mask(*rows):
    """Write a mask as strings of 1 and 0, one for each neuron."""
    return torch.tensor([[digit == "1" for digit in row] for row in rows])


def network(method="static", **settings):
    """Make 4 -> 3 -> 2 with 11 of its 18 weights active, and return its engine."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    config = SparseConfig(method=method, sparsity=0.4, distribution="uniform", **settings)
    return sparsify(net, config)


# The topology as it is ----------------------------------------------------------------------------


def test_density_counts_dense_layers_too():
    engine = network(dense=("output",))
    engine.tensors[0].start(mask("1000", "1100", "0000"))
    shares = density(engine)
    assert shares.layers == {"0.weight": 3 / 12, "2.weight": 1.0}
    assert shares.overall == 9 / 18


def test_exploration_is_what_was_ever_active():
    engine = network("set", drop_fraction=0.5)
    ever = {tensor.name: tensor.active().clone() for tensor in engine.tensors}
    for _ in range(3):
        engine.update()
        for tensor in engine.tensors:
            ever[tensor.name] |= tensor.active()
    shares = exploration(engine)
    counts = {name: int(seen.sum()) for name, seen in ever.items()}
    assert shares.layers == {
        "0.weight": counts["0.weight"] / 12,
        "2.weight": counts["2.weight"] / 6,
    }
    assert shares.overall == sum(counts.values()) / 18
    assert shares.overall > density(engine).overall


def test_exploration_of_a_topology_that_never_moves_is_its_density():
    engine = network("static")
    assert exploration(engine) == density(engine)


def test_a_dense_network_has_explored_everything():
    engine = network("dense")
    assert exploration(engine).overall == 1.0


def test_neurons_by_hand():
    engine = network()
    hidden, output = engine.tensors
    hidden.start(mask("1000", "0000", "0110"))
    output.start(mask("110", "100"))
    first, last = neurons(engine)
    assert (first.name, first.total, first.active, first.ablated) == ("0.weight", 3, 2, 1)
    assert first.dead_output == 1  # the third neuron; the second is read, but has no inputs
    assert (last.active, last.ablated, last.dead_output) == (2, 0, None)


def test_a_dense_layer_reads_every_neuron():
    engine = network(dense=("output",))
    assert [count.dead_output for count in neurons(engine)] == [0]


def test_a_filter_is_read_through_pooling_and_flattening():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8, 3),
    )  # fmt: skip
    engine = sparsify(net, SparseConfig(method="static", sparsity=0.5))
    engine.tensors[0].start(torch.ones(2, 9, dtype=torch.bool))
    engine.tensors[1].start(mask("00000100", "00000000", "00000001"))
    assert neurons(engine)[0].dead_output == 1
    engine.tensors[1].start(mask("00000100", "00000000", "00010001"))
    assert neurons(engine)[0].dead_output == 0


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)),
        nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1, groups=2)),
        nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]),
    ],
    ids=["norm mixes neurons", "groups", "no sequence"],
)
def test_readers_that_are_not_evident_are_left_out(net):
    engine = sparsify(net, SparseConfig(method="static", sparsity=0.2, distribution="uniform"))
    assert [count.dead_output for count in neurons(engine)] == [None, None]


# How it changes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "jaccard", "retained", "divergence"),
    [
        ("1100", "1100", 1, 1, 0),
        ("1100", "0011", 0, 0, 4),
        ("1110", "0111", 2 / 4, 2 / 3, 2),
        ("1111", "1000", 1 / 4, 1 / 4, 3),
        ("0000", "1000", 0, 1, 1),
        ("0000", "0000", 1, 1, 0),
    ],
)
def test_overlap_by_hand(before, after, jaccard, retained, divergence):
    assert overlap(mask(before), mask(after)) == Overlap(jaccard, retained, divergence)


def test_masks_of_different_shapes_do_not_compare():
    with pytest.raises(ValueError, match=r"masks of shapes \(1, 2\) and \(1, 3\)"):
        overlap(mask("10"), mask("101"))


@settings(deadline=None)
@given(MASKS)
def test_overlap_is_bounded_and_jaccard_symmetric(pair):
    first, second = (torch.tensor(row) for row in pair)
    there, back = overlap(first, second), overlap(second, first)
    assert 0 <= there.jaccard <= there.retained <= 1
    assert there.jaccard == back.jaccard
    assert (there.jaccard == 1) == torch.equal(first, second)


def test_change_by_hand():
    change = Change(before=10, dropped=3, grown=2, ablated=1)
    assert (change.after, change.churn, change.jaccard) == (9, 0.3, 7 / 12)
    assert change.divergence == 5
    assert change + Change(10, 1, 1, 0, 2) == Change(20, 4, 3, 1, 2)
    assert (Change().churn, Change().jaccard) == (0, 1)
    assert overall([change, change]).churn == 0.3


def test_the_meter_agrees_with_the_masks():
    engine = network("set", drop_fraction=0.5, update_every=1)
    meter = TopologyMeter(engine)
    start = {tensor.name: tensor.active().clone() for tensor in engine.tensors}
    dropped = dict.fromkeys(start, 0)
    for update in range(1, 5):
        before = {tensor.name: tensor.active().clone() for tensor in engine.tensors}
        engine.update()
        for tensor in engine.tensors:
            was, now = before[tensor.name], tensor.active()
            last = meter.last[tensor.name]
            dropped[tensor.name] += int((was & ~now).sum())
            assert (last.before, last.after) == (int(was.sum()), int(now.sum()))
            assert last.jaccard == overlap(was, now).jaccard
            assert last.churn == pytest.approx(1 - overlap(was, now).retained)
            assert meter.total[tensor.name].dropped == dropped[tensor.name]
            assert meter.total[tensor.name].before == update * int(was.sum())
            assert meter.since_start()[tensor.name] == overlap(start[tensor.name], now)
        assert meter.updates == update
    assert sum(dropped.values()) > 0


def test_the_meter_sees_neurons_come_and_go():
    """Neurons 0 and 1 lose their weights, neuron 0 gets one back."""
    engine = network()
    meter = TopologyMeter(engine)
    first = engine.tensors[0]
    start = first.active().clone()
    start[:2, 0] = True
    empty, back = start.clone(), start.clone()
    empty[:2] = False
    back[0, 1:], back[0, 0], back[1] = False, True, False
    for mask in (start, empty, back):
        deltas = {t.name: Delta.between(t.active(), t.active()) for t in engine.tensors}
        deltas[first.name] = Delta.between(first.active(), mask)
        first.apply(deltas[first.name])
        meter(Moment(step=0, update=0, fraction=0.3), deltas)
    total = meter.total[first.name]
    hidden = next(layer for layer in neurons(engine) if layer.name == first.name)
    assert (meter.updates, total.ablated, total.revived) == (3, 2, 1)
    assert meter.last[first.name].revived == 1 and hidden.ablated == 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_the_meter_goes_along_with_a_copy(copied):
    engine = network("set")
    net = engine.root
    meter = TopologyMeter(engine)
    engine.update()
    twin = copied(net).sparse_engine
    (twin_meter,) = twin.observers
    twin.update()
    assert (meter.updates, twin_meter.updates) == (1, 2)
    engine.update()
    assert twin_meter.last == meter.last
    assert twin_meter.total == meter.total
    assert twin_meter.since_start() == meter.since_start()


def test_a_detached_meter_sees_nothing():
    engine = network("set")
    meter = TopologyMeter(engine)
    meter.detach()
    engine.update()
    assert meter.updates == 0


# Bytes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "group", "expected"),
    [
        (("110", "011"), 1, 4 * 4 + 4 * 2),  # equal fan-in: values and indices
        (("110", "000", "011"), 1, 4 * 4 + 4 * 2 + 2 * 4),  # and which neurons are left
        (("110", "001"), 1, 3 * 4 + 3 * 2 + 3 * 4),  # and where each row begins
        (("110", "110", "011", "011"), 2, 8 * 4 + 4 * 2),  # an index serves two neurons
        (("101", "101", "011"), 2, 6 * 4 + 4 * 2),
        (("000", "000"), 1, 0),
    ],
)
def test_condensed_bytes_by_hand(rows, group, expected):
    assert condensed_bytes(mask(*rows), group=group) == expected


def test_wide_rows_need_wide_indices():
    row = torch.zeros(1, 65537, dtype=torch.bool)
    row[0, :3] = True
    assert condensed_bytes(row, item_size=2) == 3 * 2 + 3 * 4
    assert condensed_bytes(row[:, 1:], item_size=2) == 2 * 2 + 2 * 2


def test_memory_of_a_network_by_hand():
    engine = network()
    net = engine.root
    hidden, output = engine.tensors
    hidden.start(mask("1100", "0000", "0110"))
    output.start(mask("110", "100"))
    optimizer = torch.optim.Adam(net.parameters())
    engine.attach(optimizer)
    biases = 5 * 4
    assert memory(engine).dense == Bytes(18 * 4 + biases, 18 * 4 + biases, 0)
    net(torch.zeros(1, 4)).sum().backward()
    optimizer.step()
    found = memory(engine)
    assert found.dense == Bytes(92, 92, 2 * 92)
    indices = (4 * 2 + 2 * 4) + (3 * 2 + 3 * 4)
    values = (4 + 3) * 4 + biases
    assert found.condensed == Bytes(values + indices, values, 2 * values)
    assert found.ratio == (4 * values + indices) / (4 * 92)


@pytest.mark.parametrize("method", ["srigl", "rigl"])
def test_memory_is_the_same_whether_masked_or_condensed(method):
    found = []
    for backend in ("masked", "condensed"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
        optimizer = torch.optim.Adam(net.parameters())
        config = SparseConfig(method=method, sparsity=0.5, backend=backend, min_fan_in=1)
        engine = sparsify(net, config, optimizer)
        net(torch.randn(8, 16)).sum().backward()
        optimizer.step()
        found.append(memory(engine))
    assert found[0] == found[1]
    assert found[1].dense.weights == 4 * (16 * 8 + 8 * 4 + 12)


def test_memory_knows_momentum_frozen_parameters_and_shared_columns():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    net[1].weight.requires_grad_(False)
    config = SparseConfig(method="static", structure="constant_fan_in", group=2, sparsity=0.5)
    optimizer = torch.optim.SGD([net[0].weight], lr=0.1, momentum=0.9)
    engine = sparsify(net, config, optimizer)
    net(torch.zeros(1, 4)).sum().backward()
    optimizer.step()
    found = memory(engine)
    assert found.dense == Bytes(32 * 4, 16 * 4, 16 * 4)
    assert found.condensed == Bytes(2 * (8 * 4 + 4 * 2), 8 * 4, 8 * 4)


def test_latent_weights_cannot_be_condensed():
    engine = network("topkast")
    found = memory(engine)
    assert found.condensed == found.dense
    assert found.ratio == 1
