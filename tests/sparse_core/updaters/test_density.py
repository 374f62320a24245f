"""A density that moves, up or down: curves by hand, exact counts, both backends."""

from __future__ import annotations

import math

import pytest
import torch

from sparse_core import SparseConfig, sparsify
from sparse_core.schedule import CURVES, Schedule
from tests.sparse_core.networks import built, mlp, train

HALFWAY = {"cubic": 7 / 8, "linear": 1 / 2, "sigmoid": 1 / 2, "annealed": 1 / 2 + 1 / math.pi}
QUARTER = {
    "cubic": 1 - 27 / 64,
    "linear": 1 / 4,
    "sigmoid": (1 / (1 + math.e**3) - 1 / (1 + math.e**6)) / (1 - 2 / (1 + math.e**6)),
    "annealed": 1 / 4 + math.sin(math.pi / 4) / math.pi,
}


@pytest.mark.parametrize("curve", CURVES)
def test_curves_by_hand(curve):
    way = CURVES[curve]
    assert (way(0), way(1)) == (pytest.approx(0), pytest.approx(1))
    assert way(0.25) == pytest.approx(QUARTER[curve])
    assert way(0.5) == pytest.approx(HALFWAY[curve])
    points = [way(x / 50) for x in range(51)]
    assert points == sorted(points)


def test_updates_go_on_as_ever_and_there_is_one_more_at_the_end():
    config = SparseConfig(initial_sparsity=0.5, update_every=10, stop_at=0.75, prune_from=0.25)
    schedule = Schedule.of(config)
    assert [t for t in range(101) if schedule.due(t, 100)] == [10, 20, 30, 40, 50, 60, 70, 75]
    assert [schedule.pruned(t, 100) for t in (10, 20, 25, 75)] == [0, 0, 0, 1]
    assert schedule.pruned(50, 100) == 7 / 8
    still = Schedule.of(SparseConfig(update_every=10, stop_at=0.75))
    assert [t for t in range(101) if still.due(t, 100)] == [10, 20, 30, 40, 50, 60, 70]


@pytest.mark.parametrize(("first", "last"), [(0.9, 0.25), (0.25, 0.9), (0.9, 0.0), (0.0, 0.9)])
@pytest.mark.parametrize("method", ["set", "rigl", "rigl_itop", "chts", "mest"])
def test_counts_follow_the_curve_and_end_at_the_budget(method, first, last):
    fields = dict(method=method, sparsity=last, initial_sparsity=first, distribution="uniform")
    net, optimizer, engine = built(
        fields | dict(update_every=4, horizon=24, stop_at=1.0, density_curve="linear")
    )
    total, counts = 12 * 16 + 16 * 16 + 16 * 4, [sum(t.count() for t in engine.tensors)]
    engine.observers.append(lambda *_: counts.append(sum(t.count() for t in engine.tensors)))
    train(net, optimizer, range(24))
    way = [(step - 1) / 23 for step in (4, 8, 12, 16, 20, 24)]
    expected = [(1 - first) + (first - last) * x for x in (0, *way)]
    assert counts == pytest.approx([total * e for e in expected], abs=3)
    assert counts[0] == round(total * (1 - first)) and counts[-1] == round(total * (1 - last))
    assert engine.sparsity == pytest.approx(last, abs=1 / total)


@pytest.mark.filterwarnings("ignore:Constant fan-in at sparsity=0.9")
@pytest.mark.parametrize(("first", "last"), [(0.9, 0.5), (0.5, 0.9)])
@pytest.mark.parametrize("method", ["rigl", "srigl", "chts"])
def test_masked_and_condensed_grow_and_shrink_alike(method, first, last):
    masks = {}
    for backend in ("masked", "condensed"):
        torch.manual_seed(0)
        net = mlp(12, 16, 16, 4).double()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        config = SparseConfig(
            method=method, sparsity=last, initial_sparsity=first, update_every=3, horizon=12,
            stop_at=1.0, backend=backend,
        )  # fmt: skip
        engine = sparsify(net, config, optimizer)
        shapes = [tuple(tensor.weight.shape) for tensor in engine.tensors]
        train(net, optimizer, range(12))
        assert engine.updates == 4
        assert [tuple(tensor.weight.shape) for tensor in engine.tensors] == shapes
        masks[backend] = [tensor.active() for tensor in engine.tensors]
    assert all(map(torch.equal, masks["masked"], masks["condensed"]))


def test_a_state_from_any_time_of_the_course_can_be_loaded():
    fields = dict(method="rigl", sparsity=0.25, initial_sparsity=0.8, update_every=4, horizon=16)
    net, optimizer, engine = built(fields)
    train(net, optimizer, range(8))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    fresh, _, other = built(fields)
    fresh.load_state_dict(state)
    assert [t.count() for t in other.tensors] == [t.count() for t in engine.tensors]


def test_what_a_moving_density_needs():
    with pytest.raises(ValueError, match=r"structure='2:4': .* starts at sparsity 0.8, and an N:M"):
        SparseConfig(sparsity=0.5, structure="2:4", initial_sparsity=0.8)
    with pytest.raises(ValueError, match=r"density_curve='step': must be one of cubic, linear"):
        SparseConfig(density_curve="step")
    with pytest.raises(ValueError, match=r"initial_sparsity=0.95: must be at most sparsity=0.9"):
        SparseConfig(method="granet", initial_sparsity=0.95)
    net, optimizer, _ = built(dict(method="rigl", initial_sparsity=0.5))
    with pytest.raises(RuntimeError, match=r"method='rigl': its schedule needs the length"):
        train(net, optimizer, range(1))


def test_where_the_density_stays_nothing_of_its_course_is_part_of_an_experiment():
    still = SparseConfig(prune_from=0.5, density_curve="linear")
    assert still.canonical() == SparseConfig()
    dense = SparseConfig(method="gmp", initial_sparsity=0.0)
    assert dense.canonical() == SparseConfig(method="gmp")
    moving = SparseConfig(initial_sparsity=0.5, density_curve="linear")
    assert moving.canonical() == moving
