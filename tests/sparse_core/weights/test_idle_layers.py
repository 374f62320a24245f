"""Layers that no gradient reaches sit out updates that need one; the others go on."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparse_core import Engine, SparseConfig, sparsify
from sparse_core.schedule import Schedule
from sparse_core.updaters.scene import Moment, target

SEEING: list[dict[str, Any]] = [
    dict(method="rigl"),
    dict(method="rigl", backend="condensed"),
    dict(method="srigl"),
    dict(method="srigl", backend="condensed"),
    dict(method="rigl", gradient_steps=2),
    dict(method="rigl", gradient_steps=2, backend="condensed"),
    dict(method="rigl", growth="momentum"),
    dict(method="mest"),
    dict(method="snfs"),
    dict(method="snfs", growth="gradient"),
    dict(method="gse"),
    dict(method="gse", scope="global"),
    dict(method="gse", growth="sampled_graest"),
    dict(method="gse", growth="sampled_grabo", backend="condensed"),
    dict(method="set", drop="sensitivity"),
]
PRUNING: list[dict[str, Any]] = [
    dict(method="granet"),
    dict(method="granet", scope="global"),
    dict(method="gmp", drop="sensitivity"),
    dict(method="gmp", drop="sensitivity", scope="global"),
]


class TwoHeads(nn.Module):
    """A trunk and two heads, of which one can be left unused."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.left, self.right = nn.Linear(12, 16), nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, x: Tensor, heads: tuple[str, ...] = ("left", "right")) -> Tensor:
        x = self.trunk(x).relu()
        return sum(getattr(self, head)(x) for head in heads)  # type: ignore[no-any-return]


def built(fields: dict[str, Any]) -> tuple[TwoHeads, torch.optim.Optimizer, Engine]:
    torch.manual_seed(0)
    net = TwoHeads()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    config = SparseConfig(**dict(sparsity=0.6, update_every=2, distribution="uniform") | fields)
    return net, optimizer, sparsify(net, config, optimizer)


def step(
    net: TwoHeads, optimizer: torch.optim.Optimizer, number: int, *heads: str, **zero: bool
) -> None:
    optimizer.zero_grad(**zero)
    x = torch.randn(6, 12, generator=torch.Generator().manual_seed(number))
    (net(x, heads or ("left", "right")) - 0.5).pow(2).mean().backward()
    optimizer.step()


def counts(engine: Engine) -> list[int]:
    return [tensor.count() for tensor in engine.tensors]


@pytest.mark.parametrize("fields", SEEING)
@pytest.mark.parametrize("why", ["unused", "unused, zeros", "frozen"])
def test_a_layer_without_a_gradient_keeps_its_topology_and_the_others_go_on(fields, why):
    net, optimizer, engine = built(fields)
    total = sum(counts(engine))
    heads = ("left", "right") if why == "frozen" else ("left",)
    if why == "frozen":
        engine.tensors[2].weight.requires_grad_(False)
    started = {t.name: (t.active(), t.values().clone()) for t in engine.tensors}
    zero = dict(set_to_none=why != "unused, zeros")
    with pytest.warns(UserWarning, match=r"layer 'right.weight': (it is frozen|no gradient)") as w:
        for number in range(6):
            step(net, optimizer, number, *heads, **zero)
            assert sum(counts(engine)) == total
    assert len(w) == 1 and engine.updates == 3
    for tensor in engine.tensors:
        mask, values = started[tensor.name]
        same = torch.equal(tensor.active(), mask)
        assert same == (tensor.name == "right.weight")
        assert not same or torch.equal(tensor.values(), values)


@pytest.mark.parametrize("fields", SEEING)
def test_it_takes_part_again_when_a_gradient_reaches_it(fields):
    net, optimizer, engine = built(fields)
    engine.tensors[2].weight.requires_grad_(False)
    with pytest.warns(UserWarning, match="layer 'right.weight': it is frozen"):
        for number in range(4):
            step(net, optimizer, number)
    before = engine.tensors[2].active()
    engine.tensors[2].weight.requires_grad_(True)
    for number in range(4, 10):
        step(net, optimizer, number)
    assert not torch.equal(engine.tensors[2].active(), before)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_random_growth_needs_no_gradient(backend, frozen):
    net, optimizer, engine = built(dict(method="set", backend=backend))
    engine.tensors[2].weight.requires_grad_(not frozen)
    before = engine.tensors[2].active()
    for number in range(4):
        step(net, optimizer, number, "left")
    assert torch.equal(engine.tensors[2].active(), before) == frozen


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("missed", [0, 1, 2])
def test_a_mean_over_several_steps_needs_them_all(backend, missed):
    fields = dict(method="rigl", update_every=3, gradient_steps=3, backend=backend)
    net, optimizer, engine = built(fields)
    before = engine.tensors[2].active()
    with pytest.warns(UserWarning, match="no gradient reached it in one of the last 3 steps"):
        for number in range(3):
            step(net, optimizer, number, "left", *(["right"] if number != missed else []))
    assert torch.equal(engine.tensors[2].active(), before)
    for number in range(3, 6):
        step(net, optimizer, number)
    assert not torch.equal(engine.tensors[2].active(), before)


@pytest.mark.parametrize("backend", ["masked", "condensed"])
def test_that_a_mean_lacks_a_step_is_saved_with_it(backend):
    """Saved between the step that a head missed and the update: a resumed run is the same run."""
    fields = dict(method="rigl", update_every=3, gradient_steps=3, backend=backend)
    net, optimizer, engine = built(fields)
    step(net, optimizer, 0, "left")
    saved = copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict())
    other, its_optimizer, _ = built(fields | dict(seed=1))
    other.load_state_dict(saved[0])
    its_optimizer.load_state_dict(saved[1])
    for one, its in ((net, optimizer), (other, its_optimizer)):
        with pytest.warns(UserWarning, match=r"right.weight"):
            for number in range(1, 5):
                step(one, its, number)
    assert engine.updates == 1
    assert all(map(torch.equal, net.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("fields", PRUNING)
def test_a_pruned_network_comes_to_its_budget_whatever_was_left_out_on_the_way(fields):
    net, optimizer, engine = built(fields | dict(horizon=16, stop_at=1.0))
    budget = sum(tensor.budget for tensor in engine.tensors)
    with pytest.warns(UserWarning, match="layer 'right.weight': no gradient"):
        for number in range(16):
            before = counts(engine)
            step(net, optimizer, number, "left", *(["right"] if number not in (3, 9) else []))
            assert number not in (3, 9) or counts(engine)[2] == before[2]
    assert sum(counts(engine)) == budget


def test_what_an_idle_layer_holds_less_than_its_share_is_not_lost():
    """Ranked over all layers, one holds little when it is left out; the others keep its share."""
    fields = dict(method="granet", scope="global", horizon=16, stop_at=1.0)
    net, optimizer, engine = built(fields)
    with torch.no_grad():
        net.right.weight.mul_(1e-3)
    optimizer.param_groups[0]["lr"] = 0.0
    with pytest.warns(UserWarning, match="layer 'right.weight': no gradient"):
        for number in range(16):
            step(net, optimizer, number, "left", *(["right"] if number != 9 else []))
            if number % 2 and number > 2:
                moment = Moment.now(engine, Schedule.of(engine.config), 0)
                wanted = sum(target(t, moment) for t in engine.tensors)
                assert sum(counts(engine)) == wanted
    assert sum(counts(engine)) == sum(tensor.budget for tensor in engine.tensors)


@pytest.mark.parametrize("fields", [f for f in SEEING if f.get("growth") != "momentum"])
def test_other_parts_may_have_the_loss_to_themselves(fields):
    """An engine of one part of a network: none of its layers, but others, have a gradient."""
    torch.manual_seed(0)
    net, dense = TwoHeads(), nn.Linear(12, 8)
    parameters = [*net.parameters(), *dense.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    config = SparseConfig(**dict(sparsity=0.6, update_every=2, distribution="uniform") | fields)
    engine = sparsify(net, config, optimizer)
    before = [tensor.active() for tensor in engine.tensors]
    with pytest.warns(UserWarning, match="keeps its topology") as told:
        for number in range(4):
            optimizer.zero_grad()
            dense(torch.randn(6, 12, generator=torch.Generator().manual_seed(number))).pow(
                2
            ).mean().backward()
            optimizer.step()
    assert len(told) == 3 and engine.updates == 2
    assert all(map(torch.equal, before, [tensor.active() for tensor in engine.tensors]))


def test_a_network_that_is_frozen_as_a_whole_stays_as_it_is():
    net, optimizer, engine = built(dict(method="rigl"))
    before = [tensor.active() for tensor in engine.tensors]
    for tensor in engine.tensors:
        tensor.weight.requires_grad_(False)
    with pytest.warns(UserWarning, match="it is frozen") as told:
        for number in range(4):
            step(net, optimizer, number)
    assert len(told) == 3
    assert all(map(torch.equal, before, [tensor.active() for tensor in engine.tensors]))


@pytest.mark.parametrize("method", ["topkast", "wsn", "edge_popup"])
def test_methods_that_look_at_no_gradient_say_nothing(method):
    net, optimizer, engine = built(dict(method=method))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    engine.attach(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(4):
            step(net, optimizer, number, "left")


def test_a_closure_may_leave_a_layer_out_but_not_all():
    net, optimizer, engine = built(dict(method="rigl"))
    x = torch.randn(6, 12, generator=torch.Generator().manual_seed(0))

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (net(x, ("left",)) - 0.5).pow(2).mean()
        loss.backward()
        return loss

    before = engine.tensors[2].active()
    with pytest.warns(UserWarning, match="layer 'right.weight': no gradient"):
        optimizer.step(closure)
        optimizer.step(closure)
    assert torch.equal(engine.tensors[2].active(), before)
    optimizer.zero_grad()
    with pytest.raises(RuntimeError, match="no gradient flowed to any sparse layer"):
        for _ in range(2):
            optimizer.step(lambda: torch.zeros(()))
