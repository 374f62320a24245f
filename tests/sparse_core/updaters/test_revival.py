"""TAR: how a reserve is shared by hand, one revival, nothing after it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.budgets.selection import Selected
from sparse_core.updaters import updater_for
from sparse_core.updaters.revival import floor
from tests.sparse_core.networks import built, mlp, train

# Floors N ln N / 2: 12 ln 12 / 2 = 14.9, 16 ln 16 / 2 = 22.2, 10 ln 10 / 2 = 11.5 links.
SHAPES = {"a": (8, 4), "b": (8, 8), "c": (2, 8)}
INITIAL = {"a": 5, "b": 21, "c": 12}  # a lacks 10, b lacks 2, c nothing


def shared(reserve):
    sparse = [Selected(name, nn.Identity(), "weight", "hidden", s) for name, s in SHAPES.items()]
    tar = updater_for(SparseConfig(method="tar"))
    return tar.budgets(sparse, INITIAL, {"a": 0, "b": 0, "c": 38 + reserve})


def test_floors_by_hand():
    assert [floor(*shape) for shape in SHAPES.values()] == pytest.approx(
        [14.909, 22.181, 11.513], abs=1e-3
    )


@pytest.mark.parametrize(
    ("reserve", "expected"),
    [
        (0, {"a": 5, "b": 21, "c": 12}),
        (6, {"a": 10, "b": 22, "c": 12}),  # 10 : 2 of 6
        (12, {"a": 15, "b": 23, "c": 12}),  # all have what they lack
        (20, {"a": 18, "b": 27, "c": 13}),  # 8 more by 14.9 : 22.2 : 11.5
        (74, {"a": 32, "b": 64, "c": 16}),  # all there is
    ],
)
def test_a_reserve_goes_where_connectivity_lacks(reserve, expected):
    assert shared(reserve) == expected


def test_one_revival_and_no_other_change():
    fields = dict(method="tar", sparsity=0.8, initial_sparsity=0.9, prune_from=0.25, horizon=20)
    net, optimizer, engine = built(fields | dict(update_every=2))
    total = 12 * 16 + 16 * 16 + 16 * 4
    first = [tensor.active() for tensor in engine.tensors]
    assert sum(int(mask.sum()) for mask in first) == round(0.1 * total)
    moments = []
    engine.observers.append(lambda moment, deltas: moments.append((moment.step, deltas)))
    train(net, optimizer, range(20))
    assert [step for step, _ in moments] == [5]
    for tensor, before in zip(engine.tensors, first, strict=True):
        delta = moments[0][1][tensor.name]
        assert not delta.dropped.numel() and not (before & ~tensor.active()).any()
        assert tensor.count() == tensor.budget
    assert sum(t.count() for t in engine.tensors) == round(0.2 * total)


def test_a_reserve_is_a_twentieth_unless_told_otherwise():
    engine = sparsify(mlp(40, 40, 40, 10), SparseConfig(method="tar", sparsity=0.8, horizon=10))
    begun, final = (
        sum(getattr(t, b) for t in engine.tensors) for b in ("initial_budget", "budget")
    )
    assert begun == pytest.approx(0.95 * final, abs=1)


@pytest.mark.parametrize("growth", ["random", "unfired"])
def test_masked_and_condensed_revive_alike(growth):
    masks = {}
    for backend in ("masked", "condensed"):
        torch.manual_seed(0)
        net = mlp(12, 16, 16, 4).double()
        optimizer = torch.optim.Adam(net.parameters())
        config = SparseConfig(
            method="tar", sparsity=0.5, initial_sparsity=0.7, horizon=8, prune_from=0.5,
            growth=growth, backend=backend,
        )  # fmt: skip
        engine = sparsify(net, config, optimizer)
        train(net, optimizer, range(8))
        masks[backend] = [tensor.active() for tensor in engine.tensors]
    assert all(map(torch.equal, masks["masked"], masks["condensed"]))


@pytest.mark.parametrize("structure", ["constant_fan_in", "2:4", "2x2", "neurons"])
def test_structures_that_cannot_take_a_single_weight_are_refused(structure):
    with pytest.raises(ValueError, match="method 'tar' needs unstructured"):
        SparseConfig(method="tar", sparsity=0.5, structure=structure)
