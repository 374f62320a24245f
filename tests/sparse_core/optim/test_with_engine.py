"""Our optimizers under an engine that moves weights and their moments."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from sparse_core import Engine, SparseConfig, optim, sparsify
from sparse_core.weights.fresh import initial_state, leaves_zeros
from tests.sparse_core.networks import mlp, train
from tests.sparse_core.ties import Twins

FIELDS: list[dict[str, Any]] = [
    dict(method="srigl", group=2, ablation_threshold=0.6),
    dict(method="rigl", optimizer_state="layer_mean"),
]


def built(fields: dict[str, Any], kind: Any) -> tuple[nn.Module, torch.optim.Optimizer, Engine]:
    torch.manual_seed(0)
    net = mlp(12, 40, 24, 4)
    optimizer = kind(net.parameters(), lr=3e-3)
    config = SparseConfig(**dict(sparsity=0.8, update_every=5, horizon=100) | fields)
    return net, optimizer, sparsify(net, config, optimizer)


@pytest.mark.parametrize("fields", FIELDS, ids=lambda f: f["method"])
def test_masked_and_condensed_train_alike_and_as_with_torch(fields: dict[str, Any]) -> None:
    runs = [
        built(fields | dict(backend=backend), kind)
        for backend, kind in (
            ("masked", optim.Adam), ("condensed", optim.Adam), ("condensed", torch.optim.Adam),
        )
    ]  # fmt: skip
    twins = [Twins(), Twins()]
    for step in range(0, 40, 5):
        for net, optimizer, _ in runs:
            train(net, optimizer, range(step, step + 5))
        for twin, (_, _, engine) in zip(twins, runs[1:], strict=True):
            if twin.tensors_alike(runs[0][2].tensors, engine.tensors):
                for one, other in zip(runs[0][2].tensors, engine.tensors, strict=True):
                    torch.testing.assert_close(one.values(), other.values(), rtol=1e-3, atol=1e-5)
    assert any(twin.compared for twin in twins)


@pytest.mark.parametrize("kind", [optim.AdamW, optim.SGD, optim.RMSprop])
@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_a_run_taken_up_again_goes_on_to_the_bit(kind: Any, backend: str) -> None:
    fields = FIELDS[0] | dict(backend=backend, update_every=3)
    net, optimizer, _ = built(fields, kind)
    train(net, optimizer, range(7))
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    twin, twin_optimizer, _ = built(fields, kind)
    twin.load_state_dict(saved[0])
    twin_optimizer.load_state_dict(saved[1])
    ends = []
    for one, other in ((net, optimizer), (twin, twin_optimizer)):
        train(one, other, range(7, 16))
        ends.append((one.state_dict(), other.state_dict()["state"]))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


def test_what_the_engine_finds_out_about_them() -> None:
    for kind in (optim.Adam, optim.AdamW, optim.SGD, optim.RMSprop):
        weight = nn.Parameter(torch.ones(3, 4))
        optimizer = kind([weight], lr=0.1)
        twin = getattr(torch.optim, kind.__name__)([weight], lr=0.1)
        assert initial_state(optimizer, weight) == initial_state(twin, weight)
        assert leaves_zeros(optimizer)
