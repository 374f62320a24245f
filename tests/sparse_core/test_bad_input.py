"""Requests that cannot be met name the layer and the numbers, and leave everything as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparse_core import SparseConfig, sparsify
from sparse_core.registry import METHODS
from sparse_core.tickets import LotteryTicket
from tests.sparse_core.nets import mlp


def snapshot(net: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> list[Any]:
    """All that an error must not change, to the byte."""

    def raw(value: Any) -> Any:
        if not torch.is_tensor(value):
            return value
        return value.dtype, value.shape, value.detach().clone().contiguous().numpy().tobytes()

    modules = [
        (name, type(m), sorted(m._buffers), len(m._forward_pre_hooks), len(m._forward_hooks),
         len(m._load_state_dict_post_hooks), sorted(k for k in vars(m) if k != "training"))
        for name, m in net.named_modules()
    ]  # fmt: skip
    tensors = [(k, raw(v)) for k, v in net.state_dict().items()]
    gradients = [None if p.grad is None else raw(p.grad) for p in net.parameters()]
    if optimizer is None:
        return [modules, tensors, gradients]
    state = [
        {key: raw(value) for key, value in optimizer.state.get(p, {}).items()}
        for group in optimizer.param_groups
        for p in group["params"]
    ]
    hooks = len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)
    return [modules, tensors, gradients, state, hooks]


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6, 4))


def attention() -> nn.Module:
    return nn.Sequential(nn.MultiheadAttention(8, 2), nn.Linear(8, 4))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.head = nn.Linear(8, 10)
        self.head.weight = self.embedding.weight


# When a network is made sparse --------------------------------------------------------------------


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
            "structure='2:4': method 'gmp' starts dense",
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
    with pytest.raises(ValueError, match="rounds=0: must be an integer of at least 1"):
        LotteryTicket(net, SparseConfig(method="static"), rounds=0)
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


# While a network trains ---------------------------------------------------------------------------


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
@pytest.mark.parametrize("why", ["unused", "frozen"])
def test_growth_that_sees_no_gradient_stops_before_the_step(fields, why):
    torch.manual_seed(0)
    net = WithUnused(used=why == "frozen")
    net.other.weight.requires_grad_(why != "frozen")
    optimizer = started(net, fields)
    with pytest.raises(
        RuntimeError, match=r"layer 'other.weight': no gradient flowed .* step [12]"
    ):
        for step in range(4):
            backward(net, optimizer, step)
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
    if method == "sr_ste":
        fields["structure"] = "2:4"
    optimizer = started(net, fields)
    for step in range(5 if method == "one_shot" else 1):
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
    with pytest.raises(RuntimeError, match=r"layer '0.weight': no gradient flowed"):
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
