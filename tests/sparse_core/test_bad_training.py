"""What goes wrong while a network trains names the layer, and changes nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparse_core import SparseConfig, sparsify
from sparse_core.registry import METHODS
from tests.sparse_core.networks import mlp
from tests.sparse_core.snapshots import snapshot


def small() -> nn.Module:
    return mlp(8, 16, 4)


class WithUnused(nn.Module):
    def __init__(self, used: bool) -> None:
        super().__init__()
        self.first, self.other, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.used = used

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.head(self.other(x) if self.used else x)


def started(net: nn.Module, fields: dict[str, Any]) -> torch.optim.Optimizer:
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    sparsify(net, SparseConfig(**dict(sparsity=0.5, update_every=2) | fields), optimizer)
    return optimizer


def backward(net: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    optimizer.zero_grad()
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(step))
    (net(x) - 0.5).pow(2).mean().backward()


SEEING: list[dict[str, Any]] = [
    dict(method="rigl"),
    dict(method="srigl"),
    dict(method="rigl", gradient_steps=2),
    dict(method="rigl", growth="momentum"),
    dict(method="mest"),
    dict(method="snfs"),
    dict(method="gse"),
    dict(method="gse", growth="sampled_graest"),
    dict(method="granet", horizon=4),
    dict(method="set", drop="sensitivity"),
    dict(method="gmp", drop="sensitivity", horizon=4),
]


@pytest.mark.parametrize("fields", SEEING)
@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_step_without_any_gradient_stops_before_the_step(fields, set_to_none):
    torch.manual_seed(0)
    net = small()
    optimizer = started(net, fields)
    backward(net, optimizer, 0)
    before = snapshot(net, optimizer)
    with pytest.raises(
        RuntimeError, match=r"no gradient flowed to any sparse layer in optimizer step [12], nor"
    ):
        for _ in range(2):
            optimizer.zero_grad(set_to_none)
            for tensor in net.sparse_engine.tensors:
                tensor.tap.forget()
            before = snapshot(net, optimizer)
            optimizer.step()
    assert snapshot(net, optimizer) == before


def test_a_layer_that_stays_dense_needs_no_gradient():
    net = WithUnused(used=False)
    optimizer = started(net, dict(method="rigl", dense=("other",), gradient_steps=2))
    for step in range(4):
        backward(net, optimizer, step)
        optimizer.step()
    assert net.sparse_engine.updates == 2


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].updater])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_no_number_stops_an_update_before_the_step(method, value):
    torch.manual_seed(0)
    net = small()
    fields: dict[str, Any] = dict(method=method, horizon=6)
    if METHODS[method].structures == ("N:M",):
        fields["structure"] = "2:4"
    optimizer = started(net, fields)
    for step in range({"one_shot": 5, "tar": 0}.get(method, 1)):
        if method != "one_shot":
            backward(net, optimizer, step)
            optimizer.step()
    backward(net, optimizer, 1)
    with torch.no_grad():
        mask = net.sparse_engine.tensors[1].mask
        net[2].weight[tuple(mask.nonzero()[0])] = value
    before = snapshot(net, optimizer)
    message = (
        r"layer '2.weight': 1 of 64 weights are NaN or infinite at optimizer step [12]; nothing"
    )
    with pytest.raises(FloatingPointError, match=message):
        optimizer.step()
    assert snapshot(net, optimizer) == before


@pytest.mark.parametrize("fields", [f for f in SEEING if f.get("growth") != "sampled_graest"])
def test_a_gradient_that_is_no_number_stops_an_update_before_the_step(fields):
    torch.manual_seed(0)
    net = small()
    optimizer = started(net, fields)
    backward(net, optimizer, 0)
    optimizer.step()
    optimizer.zero_grad()
    (net(torch.full((2, 8), float("inf"))) * 0.1).sum().backward()
    before = snapshot(net, optimizer)
    with pytest.raises(
        FloatingPointError, match=r"layer '.*': \d+ of \d+ gradients are NaN .*step 2"
    ):
        optimizer.step()
    assert snapshot(net, optimizer) == before


@pytest.mark.parametrize("drop", ["magnitude", "signed", "magnitude_gradient", "sensitivity"])
def test_an_update_by_hand_with_a_nan_changes_nothing(drop):
    net = small()
    optimizer = started(net, dict(method="set", drop=drop, update_every=1))
    backward(net, optimizer, 0)
    with torch.no_grad():
        net[2].weight[tuple(net[2].weight_mask.nonzero()[0])] = float("nan")
    before = snapshot(net, optimizer)
    with pytest.raises(FloatingPointError, match=r"layer '2.weight': 1 of 64 values of the drop"):
        net.sparse_engine.update()
    assert snapshot(net, optimizer) == before


def test_an_update_by_hand_without_a_gradient_changes_nothing():
    net = small()
    optimizer = started(net, dict(method="rigl"))
    before = snapshot(net, optimizer)
    with pytest.raises(RuntimeError, match="no gradient flowed to any sparse layer"):
        net.sparse_engine.update()
    assert snapshot(net, optimizer) == before


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].needs_horizon])
def test_a_missing_horizon_is_found_at_the_first_step(method):
    net = small()
    optimizer = started(net, dict(method=method))
    backward(net, optimizer, 0)
    before = snapshot(net, optimizer)
    with pytest.raises(
        RuntimeError, match=f"method='{method}': .* needs the length of the training"
    ):
        optimizer.step()
    assert snapshot(net, optimizer) == before


@pytest.mark.parametrize("fields", [
    dict(method="rigl", skip_step=True),
    dict(method="topkast"),
    dict(method="sr_ste", structure="2:4"),
])  # fmt: skip
def test_what_changes_gradients_before_the_step_does_not_take_a_closure(fields):
    net = small()
    optimizer = started(net, fields)
    before = snapshot(net, optimizer)
    with pytest.raises(RuntimeError, match="too early for one with a closure"):
        optimizer.step(lambda: net(torch.ones(1, 8)).sum())
    assert snapshot(net, optimizer) == before


@pytest.mark.parametrize("steps", [0, -3])
def test_a_horizon_must_be_positive(steps):
    net = small()
    optimizer = started(net, dict(method="rigl"))
    before = snapshot(net, optimizer)
    with pytest.raises(ValueError, match=f"horizon={steps}: must be at least 1 optimizer step"):
        net.sparse_engine.set_horizon(steps)
    with pytest.raises(ValueError, match=f"horizon={steps}: must be at least 1 optimizer step"):
        net.sparse_engine.restart(steps)
    assert snapshot(net, optimizer) == before


@pytest.mark.parametrize("method", ["dense", "static"])
def test_what_never_moves_has_no_updates(method):
    net = small()
    optimizer = started(net, dict(method=method))
    before = snapshot(net, optimizer)
    with pytest.raises(RuntimeError, match=f"method='{method}': has no updates"):
        net.sparse_engine.update()
    assert snapshot(net, optimizer) == before


def test_state_of_another_method_is_refused():
    net, other = small(), small()
    started(net, dict(method="rigl"))
    started(other, dict(method="topkast"))
    with pytest.raises(RuntimeError, match="weight_backward"):
        net.load_state_dict(other.state_dict())
    with pytest.raises(RuntimeError, match="weight_mask"):
        net.load_state_dict(small().state_dict())
    assert copy.deepcopy(net).load_state_dict(net.state_dict())
