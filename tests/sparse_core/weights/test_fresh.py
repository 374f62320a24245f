"""What optimizers start an untrained weight from, whatever their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import Tensor, nn, optim

from sparse_core import SparseConfig, sparsify
from sparse_core.weights.fresh import initial_state, leaves_zeros
from tests.sparse_core.networks import batch, mlp, moments, train

Make = Callable[..., optim.Optimizer]


class Anonymous(optim.Optimizer):
    """An optimizer of somebody else's: state of its own kinds, options under names of its own."""

    def __init__(self, params: Any, rate: float, *, first: float = 2.0) -> None:
        super().__init__(params, dict(rate=rate, first=first))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                state.setdefault("trust", torch.full_like(p, group["first"]))
                if "noise" not in state:
                    state.update(noise=torch.zeros_like(p), seen=torch.tensor(0.0))
                state["trust"] = 0.9 * state["trust"] + p.grad.abs()
                state["noise"].add_(torch.rand_like(p).ceil() * p.grad)
                p.sub_(group["rate"] * p.grad / state["trust"])


class Drifting(optim.Optimizer):
    """Moves all weights by `drift`, from a given step on."""

    def __init__(self, params: Any, *, drift: float = 0.0, after: int = 0) -> None:
        super().__init__(params, dict(drift=drift, after=after))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                steps = self.state[p].setdefault("steps", 0)
                self.state[p]["steps"] = steps + 1
                p.add_(group["drift"] if steps >= group["after"] else 0.0)


class Wrapper(optim.Optimizer):
    """Steps another optimizer, which must not be stepped to find anything out."""

    def __init__(self, inner: optim.Optimizer) -> None:
        self.inner = inner
        self.param_groups = inner.param_groups
        self.defaults = inner.defaults
        self.state = inner.state

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.inner.step()


STARTS: list[tuple[Make, dict[str, float]]] = [
    (lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1), {"momentum_buffer": 0}),
    (lambda p: optim.Adam(p), {"exp_avg": 0, "exp_avg_sq": 0}),
    (lambda p: optim.Adam(p, amsgrad=True, foreach=True), {"max_exp_avg_sq": 0}),
    (lambda p: optim.Adam(p, amsgrad=True, fused=True), {"max_exp_avg_sq": 0}),
    (lambda p: optim.Adam(p, lr=torch.tensor(0.1)), {"exp_avg_sq": 0}),
    (lambda p: optim.AdamW(p), {"exp_avg": 0, "exp_avg_sq": 0}),
    (lambda p: optim.RMSprop(p, momentum=0.5, centered=True), {"square_avg": 0, "grad_avg": 0}),
    (lambda p: RMSpropTFLike(p, momentum=0.5), {"square_avg": 1, "momentum_buffer": 0}),
    (lambda p: optim.Adagrad(p), {"sum": 0}),
    (lambda p: optim.Adagrad(p, initial_accumulator_value=0.125), {"sum": 0.125}),
    (lambda p: optim.Adagrad(p, initial_accumulator_value=0.125, fused=True), {"sum": 0.125}),
    (lambda p: optim.Adadelta(p), {"square_avg": 0, "acc_delta": 0}),
    (lambda p: optim.Adamax(p), {"exp_avg": 0, "exp_inf": 0}),
    (lambda p: optim.NAdam(p), {"exp_avg": 0, "exp_avg_sq": 0}),
    (lambda p: optim.RAdam(p, foreach=True), {"exp_avg": 0, "exp_avg_sq": 0}),
    (lambda p: optim.ASGD(p), {"ax": 0}),
    (lambda p: optim.Rprop(p, lr=0.25), {"prev": 0, "step_size": 0.25}),
    (lambda p: optim.Rprop(p, lr=0.25, foreach=True), {"prev": 0, "step_size": 0.25}),
    (lambda p: Anonymous(p, 0.1), {"trust": 2, "noise": 0}),
    (lambda p: Anonymous(p, 0.1, first=3.0), {"trust": 3, "noise": 0}),
]


@pytest.mark.parametrize("dims", [1, 2, 4])
@pytest.mark.parametrize(("make", "expected"), STARTS)
def test_what_an_untrained_weight_starts_from(
    make: Make, expected: dict[str, float], dims: int
) -> None:
    parameter = nn.Parameter(torch.ones((2,) * dims))
    optimizer = make([parameter])
    before = torch.get_rng_state()
    found = initial_state(optimizer, parameter)
    assert {name: found[name] for name in expected} == expected
    assert "step" not in found and "seen" not in found
    assert leaves_zeros(optimizer)
    assert torch.equal(before, torch.get_rng_state())
    assert not optimizer.state.get(parameter) or "sum" in expected
    assert parameter.grad is None and bool((parameter == 1).all())


def test_the_options_of_a_weights_own_group_count_as_they_are_now() -> None:
    one, other, stranger = (nn.Parameter(torch.ones(2)) for _ in range(3))
    optimizer = optim.Rprop([{"params": [one]}, {"params": [other], "lr": 0.5}], lr=0.25)
    assert initial_state(optimizer, one)["step_size"] == 0.25
    assert initial_state(optimizer, other)["step_size"] == 0.5
    optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5)
    assert initial_state(optimizer, one)["step_size"] == 0.125
    assert initial_state(optimizer, other)["step_size"] == 0.25
    assert initial_state(optimizer, stranger) == {}


def test_what_does_not_leave_zeros_alone() -> None:
    matrix = nn.Parameter(torch.ones(3, 3))
    assert not leaves_zeros(optim.LBFGS([matrix]))
    muon = optim.Muon([matrix], lr=0.0)
    assert not leaves_zeros(muon)
    adam = optim.Adam([nn.Parameter(torch.ones(3))])
    assert leaves_zeros(adam) and leaves_zeros(optim.Adafactor([matrix]))
    assert not leaves_zeros(Wrapper(adam)) and not adam.state
    empty = optim.SGD([{"params": []}, {"params": [matrix]}], lr=0.1)
    assert leaves_zeros(empty)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_what_an_optimizer_does_to_zeros_in_its_first_three_steps_counts(after: int) -> None:
    assert not leaves_zeros(Drifting([nn.Parameter(torch.ones(3))], drift=0.5, after=after))


def test_a_group_that_is_added_counts() -> None:
    optimizer = Drifting([nn.Parameter(torch.ones(3))])
    assert leaves_zeros(optimizer)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3))], "drift": 0.5})
    assert not leaves_zeros(optimizer)


def test_vectors_and_matrices_of_a_group_may_start_from_different_state() -> None:
    """Adafactor keeps a value for each element of a vector, for a matrix rows and columns."""
    vector, matrix = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, 3))
    optimizer = optim.Adafactor([vector, matrix])
    assert initial_state(optimizer, vector) == {"variance": 0}
    assert initial_state(optimizer, matrix) == {}


def test_an_optimizer_that_cannot_be_tried_is_named() -> None:
    parameter = nn.Parameter(torch.ones(3))
    wrapper = Wrapper(optim.Adam([parameter]))
    with pytest.warns(UserWarning, match="optimizer Wrapper: what it starts a weight from cannot"):
        assert initial_state(wrapper, parameter) == {}
    assert initial_state(wrapper, parameter) == {}  # said once


STATELESS: list[Make] = [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    lambda p: optim.RMSprop(p, lr=0.1, momentum=0.5, centered=True),
    lambda p: RMSpropTFLike(p, lr=0.1),
    lambda p: optim.Adagrad(p, lr=0.1, initial_accumulator_value=0.1),
    lambda p: optim.Adadelta(p, lr=0.1),
    lambda p: optim.Rprop(p, lr=0.1),
    lambda p: Anonymous(p, 0.1),
]
"""Optimizers without a counter that a weight shares with others."""


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("make", STATELESS)
def test_a_grown_weight_makes_the_first_step_of_a_weight_that_was_never_trained(
    make: Make, backend: str
) -> None:
    torch.manual_seed(0)
    net = mlp(12, 16, 4)
    optimizer = make(net.parameters())
    config = SparseConfig("rigl", sparsity=0.5, update_every=3, drop_fraction=0.5, backend=backend)
    engine = sparsify(net, config, optimizer)
    grown: dict[str, Tensor] = {}
    engine.observers.append(
        lambda moment, deltas: grown.update({k: d.grown for k, d in deltas.items()})
    )
    train(net, optimizer, range(3))
    assert all(len(positions) for positions in grown.values())
    x, y = batch(3, 12)
    optimizer.zero_grad()
    nn.functional.mse_loss(net(x)[:, 0], y).backward()
    expected = {}
    for tensor in engine.tensors:
        new = tensor.marked(grown[tensor.name])
        twin = nn.Parameter(torch.zeros(int(new.sum())))
        assert tensor.weight.grad is not None
        twin.grad = tensor.weight.grad[new].clone()
        fresh = make([twin])
        fresh.step()
        expected[tensor.name] = new, twin.detach(), moments_of(fresh, twin)
    optimizer.step()
    for tensor in engine.tensors:
        new, weights, states = expected[tensor.name]
        torch.testing.assert_close(tensor.weight.detach()[new], weights)
        for mine, theirs in zip(moments(optimizer, tensor), states, strict=True):
            torch.testing.assert_close(mine[new], theirs)


def moments_of(optimizer: optim.Optimizer, parameter: Tensor) -> list[Tensor]:
    state = optimizer.state[parameter].values()
    return [v for v in state if torch.is_tensor(v) and v.shape == parameter.shape]
