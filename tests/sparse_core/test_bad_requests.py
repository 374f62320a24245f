"""Requests that cannot be met name layer and numbers, and leave the network as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sparse_core import SparseConfig, sparsify
from sparse_core.checks import InputError
from sparse_core.registry import GROWTH_RULES, METHODS
from sparse_core.rules import growth_rule
from sparse_core.tickets import LotteryTicket
from tests.sparse_core.networks import mlp
from tests.sparse_core.snapshots import snapshot


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6, 4))


def attention() -> nn.Module:
    return nn.Sequential(nn.MultiheadAttention(8, 2), nn.Linear(8, 4))


@growth_rule(needs="signals")
def hebbian(scene):
    return scene.outputs.T @ scene.inputs


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.head = nn.Linear(8, 10)
        self.head.weight = self.embedding.weight


def small() -> nn.Module:
    return mlp(8, 16, 4)


INFEASIBLE: list[tuple[Callable[[], nn.Module], dict[str, Any], str]] = [
    (
        small,
        dict(sparsity=0.999),
        r"sparsity=0.999: leaves 0 weights, but the layers need at least 2 \(layer '.*weight'",
    ),
    (
        small,
        dict(method="srigl", sparsity=0.95),
        r"sparsity=0.95: leaves 10 weights, but the layers need at least 20 \(layer '0.weight' "
        r"alone 16\)",
    ),
    (
        small,
        dict(layer_sparsity={"2": 0.999}),
        r"sparsity=0.999: leaves 0 weights.*'2.weight' alone 1",
    ),
    (
        small,
        dict(method="srigl", layer_sparsity={"2.weight": 0.95}, sparsity=0.5),
        r"sparsity=0.95: leaves 3 weights, .* at least 4 \(layer '2.weight' alone 4\)",
    ),
    (
        small,
        dict(dense=("2",), dense_in_budget=True, sparsity=0.7),
        r"sparsity=0.7: leaves 0 weights, .* at least 1 \(layer '0.weight' alone 1\)",
    ),
    (
        small,
        dict(method="set", structure="8x8", sparsity=0.9),
        r"sparsity=0.9: leaves 19 weights, .* at least 96 \(layer '0.weight' alone 64\)",
    ),
    (
        small,
        dict(method="set", structure="neurons", sparsity=0.9, never_ablate=()),
        r"leaves 19 weights, .* at least 24 \(layer '2.weight' alone 16\)",
    ),
    (small, dict(dense=("nothing.*",)), r"dense='nothing.\*': no such layer .* 0.weight, 2.weight"),
    (small, dict(layer_sparsity={"qkv": 0.5}), "layer_sparsity='qkv': no such layer or role"),
    (
        conv,
        dict(method="gse", growth="sampled_grabo", sparsity=0.5),
        r"growth='sampled_grabo': layer '0.weight' of shape \(6, 3, 3, 3\) is no linear layer",
    ),
    (
        attention,
        dict(method="gse", growth="sampled_graest", sparsity=0.5),
        r"layer '0.in_proj_weight' of shape \(24, 8\) is no linear layer",
    ),
    (
        Tied,
        dict(sparsity=0.5),
        r"layer 'head.weight': .* shared by 2 layers \(embedding.weight, head.weight\)",
    ),
    (
        lambda: nn.Sequential(nn.ReLU(), nn.LayerNorm(4)),
        {},
        "Sequential has no layer that can be sparse: looked for Linear",
    ),
]


@pytest.mark.parametrize(
    ("method", "others"),
    [
        ("rigl", "use 'gradient' or use 'momentum' or use 'adam_momentum' or keep it dense"),
        ("set", "keep it dense"),
    ],
)
def test_a_rule_that_looks_at_signals_names_the_others_of_its_method(monkeypatch, method, others):
    kept = tuple(name for name in METHODS[method].growth if method == "rigl")
    monkeypatch.setitem(GROWTH_RULES, "hebbian", f"{__name__}:hebbian")
    known = dataclasses.replace(METHODS[method], growth=("hebbian", *kept))
    monkeypatch.setitem(METHODS, method, known)
    expected = (
        f"growth='hebbian': layer '0.weight' .*output gradients this rule looks at; {others}$"
    )
    with pytest.raises(InputError, match=expected):
        sparsify(conv(), SparseConfig(method=method, sparsity=0.5))


@pytest.mark.parametrize(("make", "fields", "message"), INFEASIBLE)
def test_infeasible_requests_leave_the_network_dense(make, fields, message):
    net = make()
    optimizer = torch.optim.Adam(net.parameters())
    if any(p.numel() for p in net.parameters()):
        sum(p.sum() for p in net.parameters()).backward()
        optimizer.step()
    before = snapshot(net, optimizer)
    with pytest.raises(ValueError, match=message):
        sparsify(net, SparseConfig(**fields), optimizer)
    assert snapshot(net, optimizer) == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(structure="4:2", method="set", sparsity=0.5), "'4:2': N must not exceed M"),
        (
            dict(structure="2:4", method="set", sparsity=0.9),
            "sparsity=0.9: structure 2:4 means 0.5",
        ),
        (
            dict(structure="2:4", method="gmp", sparsity=0.5),
            "structure='2:4': method 'gmp' starts at sparsity 0.0",
        ),
        (
            dict(structure="2:4", method="set", sparsity=0.5, layer_sparsity={"*": 0.75}),
            "layer_sparsity=.*structure 2:4 leaves no choice",
        ),
        (
            dict(method="gmp", initial_sparsity=0.95, sparsity=0.9),
            "initial_sparsity=0.95: must be at most sparsity=0.9",
        ),
        (dict(sparsity=1.0), r"sparsity=1.0: must be a number in \[0, 1\)"),
        (dict(sparsity=float("nan")), "sparsity=nan: must be a number"),
        (
            dict(method="topkast", backward_sparsity=0.95),
            r"backward_sparsity=0.95: .* in \[0, 0.9\]",
        ),
        (dict(method="srigl", growth="random"), "growth='random': method 'srigl' can use gradient"),
        (dict(method="set", group=4), "group=4: needs structure constant_fan_in"),
        (dict(gradient_steps=200), "gradient_steps=200: must be at most update_every=100"),
    ],
)
def test_contradictions_are_found_before_there_is_a_network(fields, message):
    with pytest.raises(ValueError, match=message):
        SparseConfig(**fields)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_of_a_first_mask_must_be_numbers(value):
    net = small()
    scores = {n: p.detach().abs() for n, p in net.named_parameters() if n.endswith("weight")}
    scores["2.weight"][0, :3] = value
    before = snapshot(net)
    with pytest.raises(ValueError, match=r"scores: 3 of 64 of layer '2.weight' are NaN"):
        sparsify(net, SparseConfig(method="static"), scores=scores)
    assert snapshot(net) == before


def test_scores_must_fit():
    net = small()
    before = snapshot(net)
    with pytest.raises(ValueError, match=r"scores: need one for '2.weight' of shape \(4, 16\)"):
        sparsify(net, SparseConfig(method="static"), scores={"0.weight": torch.ones(16, 8)})
    assert snapshot(net) == before


@pytest.mark.parametrize("roles", [{"nothing": "output"}, {"0": "exit"}])
def test_unknown_roles_leave_the_network_dense(roles):
    net = small()
    before = snapshot(net)
    with pytest.raises(ValueError, match="roles"):
        sparsify(net, SparseConfig(), roles=roles)
    assert snapshot(net) == before


@pytest.mark.parametrize("whole", [False, True])
def test_a_network_is_made_sparse_once(whole):
    inner = small()
    net = nn.Sequential(inner, nn.Linear(4, 4)) if whole else inner
    optimizer = torch.optim.Adam(net.parameters())
    sparsify(inner, SparseConfig(), optimizer)
    before = snapshot(net, optimizer)
    with pytest.raises(ValueError, match="Sequential is sparse already: sparsify it once"):
        sparsify(net, SparseConfig(), optimizer)
    assert snapshot(net, optimizer) == before


def test_a_lottery_ticket_that_cannot_be_leaves_the_network_dense():
    net = small()
    before = snapshot(net)
    with pytest.raises(ValueError, match="method='static': a lottery ticket needs method 'ticket'"):
        LotteryTicket(net, SparseConfig(method="static"))
    assert snapshot(net) == before


@pytest.mark.parametrize(
    ("target", "there"),
    [
        (lambda: mlp(8, 12, 4), r"\(12, 8\)"),
        (lambda: nn.Sequential(nn.Linear(8, 16)), "none"),
        (lambda: nn.Sequential(nn.Conv1d(2, 16, 4), nn.ReLU(), nn.Linear(16, 4)), r"\(16, 2, 4\)"),
    ],
)
def test_a_target_that_cannot_follow_is_left_alone(target, there):
    net, twin = small(), target()
    engine = sparsify(net, SparseConfig())
    before = snapshot(net), snapshot(twin)
    message = (
        rf"no layer like '\d.weight': it cannot follow; .* shape \(\d+, \d+\), there is {there}"
    )
    with pytest.raises(ValueError, match=message):
        engine.follow(twin)
    assert (snapshot(net), snapshot(twin)) == before
