"""What a result says of networks: weights by hand, and what never moved."""

from __future__ import annotations

import pytest

from sparse_core.metrics.tally import UpdateTally, weights
from tests.sparse_core.networks import built, train

STATIC = {"method": "static", "sparsity": 0.5, "distribution": "uniform"}
"""Of a network 12-16-16-4, whose layers have 192, 256 and 64 weights."""


@pytest.mark.parametrize(
    ("fields", "sparsity"),
    [
        ({}, (0.5, 256, 512)),
        ({"dense": ("input",)}, (0.5, 160, 320)),
        ({"dense": ("input",), "dense_in_budget": True}, (0.5, 256, 512)),
        ({"layer_sparsity": (("output", 0.75),)}, ((0.5 * 448 + 0.75 * 64) / 512, 240, 512)),
        (
            {"layer_sparsity": (("output", 0.75), ("hidden", 0.25)), "dense": ("input",)},
            ((0.75 * 64 + 0.25 * 256) / 320, 208, 320),
        ),
        ({"method": "dense", "sparsity": 0.0}, (0.0, 0, 0)),
    ],
)
def test_a_sparsity_and_its_counts_are_of_the_same_layers(fields, sparsity):
    _, _, engine = built(STATIC | fields)
    requested, active, total = sparsity
    found = weights({"policy": engine})
    assert found["sparsity"] == {
        "requested": pytest.approx(requested),
        "achieved": pytest.approx(1 - active / total if total else 0),
        "active": active,
        "total": total,
    }
    assert [layer["total"] for layer in found["layers"]] == [192, 256, 64]
    assert [layer["name"] for layer in found["layers"]] == ["0.weight", "2.weight", "4.weight"]


def test_networks_are_counted_together_and_named():
    engines = {"actor": built(STATIC)[2], "critic": built(STATIC | {"sparsity": 0.75})[2]}
    found = weights(engines)
    assert found["sparsity"] == {
        "requested": 0.625,
        "achieved": 0.625,
        "active": 384,
        "total": 1024,
    }
    assert found["layers"][3]["name"] == "critic.0.weight"


def test_neurons_and_exploration_are_those_of_the_masks():
    net, optimizer, engine = built({"method": "rigl", "sparsity": 0.5, "update_every": 2})
    seen = {tensor.name: tensor.active().clone() for tensor in engine.tensors}
    train(net, optimizer, range(3))
    mask = engine.tensors[0].active().clone()
    mask[5:] = False
    engine.tensors[0].active = lambda rows=slice(None): mask[rows]
    found = weights({"policy": engine})
    first, second, _ = found["layers"]
    assert (first["neurons"], first["live"]) == (16, 5)
    union = int((seen["2.weight"] | engine.tensors[1].active()).sum())
    assert second["explored"] == union / 256
    assert found["bytes"]["sparse"] < found["bytes"]["dense"]
    _, _, static = built(STATIC)
    assert all("explored" not in layer for layer in weights({"policy": static})["layers"])


def test_huge_layers_are_not_looked_at_as_a_whole(monkeypatch):
    monkeypatch.setattr("sparse_core.metrics.tally.LARGEST", 200)
    found = weights({"policy": built(STATIC)[2]})
    assert ["neurons" in layer for layer in found["layers"]] == [True, False, True]
    assert "bytes" not in found


def test_what_never_moved_is_said_task_by_task():
    config = {"method": "rigl", "sparsity": 0.5, "update_every": 6, "stop_at": 0.75}
    net, optimizer, engine = built(config)
    _, _, static = built(STATIC)
    moves = UpdateTally({"actor": engine, "critic": static})
    for task, steps in enumerate((8, 16, 8, 3)):  # frozen from steps 6, 12, 6 and 3 on
        engine.restart(steps)
        train(net, optimizer, range(steps))
        moves.end(task)
    assert moves.result() == {
        "updates": {"actor": 1},
        "still": [
            "actor, tasks 0, 2: no update of the topology in 8 optimizer steps "
            "(update_every=6, frozen from step 6 on)",
            "actor, task 3: no update of the topology in 3 optimizer steps "
            "(update_every=6, frozen from step 3 on)",
        ],
    }


@pytest.mark.parametrize("horizon", [None, 40])
def test_a_training_that_moved_says_nothing_and_one_without_tasks_names_none(horizon):
    net, optimizer, engine = built({"method": "set", "update_every": 4, "horizon": horizon})
    moves = UpdateTally({"policy": engine})
    train(net, optimizer, range(3))
    moves.end()
    frozen = "" if horizon is None else ", frozen from step 30 on"
    said = f"policy: no update of the topology in 3 optimizer steps (update_every=4{frozen})"
    assert moves.result() == {"updates": {"policy": 0}, "still": [said]}
    moves = UpdateTally({"policy": engine})
    train(net, optimizer, range(3, 5))
    moves.end()
    assert moves.result() == {"updates": {"policy": 1}, "still": []}
