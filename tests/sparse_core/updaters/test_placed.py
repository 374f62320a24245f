"""Growth that looks at some places only: candidates, samples, and places that are drawn."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn

from sparse_core import CondensedLinear, SparseConfig, sparsify
from sparse_core.checks import InputError
from sparse_core.layers.compact import CompactInput
from sparse_core.updaters import updater_for
from sparse_core.updaters.candidates import likely
from sparse_core.updaters.placed import RankedPlaces
from sparse_core.updaters.places import View
from sparse_core.updaters.scene import Moment
from tests.sparse_core.networks import mlp, train

NO_MATRIX = patch(
    "sparse_core.layers.tap.GradientTap.gradient_rows", side_effect=AssertionError("a matrix")
)


def built(backend, **fields):
    torch.manual_seed(0)
    net = mlp(12, 40, 24, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    fields = {"sparsity": 0.8, "update_every": 5, "horizon": 400} | fields
    return net, optimizer, sparsify(net, SparseConfig(backend=backend, **fields), optimizer)


RULES = [
    dict(method="rigl", growth="candidates"),
    dict(method="rigl", growth="candidates", structure="constant_fan_in", group=4),
    dict(method="srigl", growth="candidates", ablation_threshold=0.9),
    dict(method="gse"),
    dict(method="gse", growth="sampled_grabo", structure="constant_fan_in"),
    dict(method="gse", growth="sampled_graest", structure="constant_fan_in", group=2),
]


@pytest.mark.parametrize("fields", RULES, ids=lambda f: "-".join(map(str, f.values())))
@pytest.mark.parametrize("large", [False, True])
def test_masked_and_condensed_layers_visit_the_same_topologies(fields, large):
    net, optimizer, engine = built("masked", **fields)
    above = 0 if large else 1 << 24
    with patch("sparse_core.weights.condensed.BLOCKS_ABOVE", above):
        twin, other, twin_engine = built("condensed", **fields)
        for step in range(0, 30, 5):
            train(net, optimizer, range(step, step + 5))
            if large:
                with NO_MATRIX:
                    train(twin, other, range(step, step + 5))
            else:
                train(twin, other, range(step, step + 5))
            for one, same in zip(engine.tensors, twin_engine.tensors, strict=True):
                assert torch.equal(one.active(), same.active())
                torch.testing.assert_close(one.values(), same.values(), rtol=1e-4, atol=1e-5)
                one.structure.check(one.active(), one.budget)
    assert engine.updates == 6


def layer_with(x, dy, fan_in=1):
    """Return the tensor of a born layer that saw an input and the gradient of its output."""
    net = nn.Sequential(CondensedLinear(x.shape[1], dy.shape[1], fan_in=fan_in))
    fields = dict(method="rigl", growth="candidates", structure="constant_fan_in")
    tensor = sparsify(net, SparseConfig(backend="condensed", **fields)).tensors[0]
    tensor.tap.inputs, tensor.tap.outputs, tensor.tap.products = [x], [dy], [(x, dy)]
    return tensor


MOMENT = Moment(step=1, update=0, fraction=1.0)


def test_candidates_by_hand():
    """Row 0 is asked for by sample 1 (features 0, 3), row 1 by none, row 2 by both."""
    x = torch.tensor([[0.0, 2.0, 0.0, 0.0], [1.0, 0.0, 0.0, 4.0]])
    dy = torch.tensor([[1.0, 0.0, -1.0], [-2.0, 3.0, -0.5]])
    tensor = layer_with(x, dy)
    cells = likely(View(tensor, MOMENT, slice(0, 3), 3))
    assert {0, 3} <= set(cells[cells < 4].tolist())
    assert {8, 9, 11} <= set(cells[cells >= 8].tolist())
    assert (np.diff(cells) > 0).all()
    some = View(tensor, MOMENT, slice(1, 3), 3)
    assert likely(some).tolist() == cells[cells >= 4].tolist()
    pattern, scores = some.scores(likely(some))
    gradient = (dy.T @ x).abs()[1:]
    assert scores.tolist() == gradient[pattern.to_mask()].tolist()


def test_a_lane_grows_the_best_of_its_candidates():
    """All is dropped: row 0 gets feature 3 with |-8|, row 2 feature 3 or 1 with |-2|, the first."""
    x = torch.tensor([[0.0, 2.0, 0.0, 0.0], [1.0, 0.0, 0.0, 4.0]])
    dy = torch.tensor([[1.0, 0.0, -1.0], [-2.0, 0.0, -0.5]])
    tensor = layer_with(x, dy)
    config = SparseConfig(method="rigl", growth="candidates", structure="constant_fan_in")
    with torch.no_grad():
        delta = updater_for(config).changes([tensor], MOMENT)[0]
        tensor.apply(delta)
    active = tensor.active()
    assert active.sum(1).tolist() == [1, 1, 1]
    assert active[0].tolist() == [False, False, False, True]
    assert active[2].tolist() == [False, True, False, False]


def test_a_lane_short_of_candidates_keeps_its_strongest_weights():
    tensor = layer_with(torch.ones(1, 6), torch.ones(1, 2), fan_in=3)
    tensor.write(torch.arange(1.0, 13).reshape(2, 6))
    with patch.object(RankedPlaces, "samples", return_value=iter(())):
        ranking = RankedPlaces.of(tensor, MOMENT, lambda scene: scene.weight.abs(), lambda s: s)
        delta = ranking.refill(ranking.strongest(2), ranking.capacity())
    assert not len(delta.dropped) and not len(delta.grown)


def test_compact_inputs_give_the_gradient_at_candidates_that_dense_ones_give():
    torch.manual_seed(0)
    x = CompactInput(torch.randn(5, 3), torch.tensor([1, 4, 8]), 10)
    dy = torch.randn(5, 6)
    found = []
    for given in (x, x.dense()):
        tensor = layer_with(x.dense(), dy)
        tensor.tap.inputs, tensor.tap.products = [given], [(given, dy)]
        with patch("sparse_core.weights.condensed.BLOCKS_ABOVE", 0):
            view = View(tensor, MOMENT, slice(0, 6), 6)
            cells = likely(view)
            found.append((cells, view.scores(cells)[1]))
    assert np.array_equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


@pytest.mark.parametrize(
    ("structure", "group"), [("constant_fan_in", 1), ("constant_fan_in", 4), ("unstructured", 1)]
)
def test_large_layers_draw_places_and_keep_their_budget(structure, group):
    with patch("sparse_core.updaters.drawn.DRAWN_ABOVE", 0):
        net, optimizer, engine = built("condensed", method="set", structure=structure, group=group)
        before = [tensor.active() for tensor in engine.tensors]
        with patch("sparse_core.updaters.scene.Scene.random", side_effect=AssertionError):
            train(net, optimizer, range(20))
    for tensor, mask in zip(engine.tensors, before, strict=True):
        assert tensor.count() == tensor.budget and not torch.equal(mask, tensor.active())
        tensor.structure.check(tensor.active(), tensor.budget)


def test_a_mean_over_steps_is_kept_as_inputs_and_output_gradients():
    fields = dict(method="rigl", structure="constant_fan_in", gradient_steps=3, update_every=5)
    engines = []
    for above in (0, 1 << 24):
        with patch("sparse_core.weights.condensed.BLOCKS_ABOVE", above):
            layers = CondensedLinear(12, 24, fan_in=4), nn.ReLU(), CondensedLinear(24, 4, fan_in=6)
            net = nn.Sequential(*layers)
            optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
            engine = sparsify(net, SparseConfig(backend="condensed", **fields), optimizer)
            train(net, optimizer, range(20))
        engines.append(engine)
    for large, small in zip(engines[0].tensors, engines[1].tensors, strict=True):
        assert large.companion("gradient_mean") is None
        assert small.companion("gradient_mean") is not None
        assert torch.equal(large.active(), small.active())


@pytest.mark.parametrize("structure", ["neurons", "2x2", "2:4"])
def test_structures_that_could_be_left_short_are_refused(structure: str) -> None:
    config = SparseConfig("rigl", 0.5, growth="candidates", structure=structure)
    with pytest.raises(InputError, match=rf"^growth='candidates': .* not {structure}$"):
        sparsify(nn.Linear(8, 8), config)
