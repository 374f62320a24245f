"""Our optimizers are torch's: steps, state, hooks, and what has no kernel."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_core import optim

Make = Callable[..., Optimizer]

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "Adam": ("Adam", dict(lr=0.01)),
    "Adam, amsgrad": ("Adam", dict(lr=0.01, amsgrad=True, weight_decay=0.1)),
    "Adam, lr a tensor": ("Adam", dict(lr=torch.tensor(0.01), maximize=True)),
    "AdamW": ("AdamW", dict(lr=0.01, betas=(0.8, 0.9), weight_decay=0.1)),
    "SGD": ("SGD", dict(lr=0.1, weight_decay=0.01)),
    "SGD, momentum": ("SGD", dict(lr=0.1, momentum=0.9, dampening=0.5)),
    "SGD, Nesterov": ("SGD", dict(lr=0.1, momentum=0.9, nesterov=True, maximize=True)),
    "RMSprop": ("RMSprop", dict(lr=0.01, weight_decay=0.1)),
    "RMSprop, all": ("RMSprop", dict(lr=0.01, centered=True, momentum=0.9, eps=0.1)),
}
each_case = pytest.mark.parametrize("name,options", CASES.values(), ids=CASES)


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((5, 7), (5,), (3, 5), (1,), ())
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def give_gradients(weights: list[nn.Parameter], step: int, without: int | None = None) -> None:
    generator = torch.Generator().manual_seed(step)
    for i, weight in enumerate(weights):
        gradient = torch.randn(weight.shape, generator=generator)
        weight.grad = None if i == without else gradient


def train(weights: list[nn.Parameter], optimizer: Optimizer, steps: range) -> None:
    """Some steps, in which each parameter lacks a gradient once."""
    for step in steps:
        give_gradients(weights, step, without=step % 6)
        optimizer.step()


def pair(name: str, options: dict[str, Any]) -> list[tuple[list[nn.Parameter], Optimizer]]:
    """The same parameters with torch's optimizer and with ours."""
    made = []
    for module in (torch.optim, optim):
        weights = parameters()
        made.append((weights, getattr(module, name)(weights, **copy.deepcopy(options))))
    return made


def assert_same(a: Optimizer, b: Optimizer, **tolerance: float) -> None:
    """Parameters and state are the same, in number and to rounding."""
    close = tolerance or dict(rtol=1e-5, atol=1e-6)
    first, second = a.state_dict(), b.state_dict()
    assert first["param_groups"] == second["param_groups"]
    for one, other in zip(a.param_groups, b.param_groups, strict=True):
        torch.testing.assert_close(one["params"], other["params"], **close)
    assert first["state"].keys() == second["state"].keys()
    for key, state in first["state"].items():
        torch.testing.assert_close(state, second["state"][key], **close)


def exact() -> dict[str, float]:
    return dict(rtol=0.0, atol=0.0)


@each_case
def test_training_is_torchs(name: str, options: dict[str, Any]) -> None:
    (w, theirs), (v, ours) = pair(name, options)
    train(w, theirs, range(15))
    train(v, ours, range(15))
    assert_same(theirs, ours)


@each_case
def test_each_goes_on_from_the_others_state(name: str, options: dict[str, Any]) -> None:
    (w, theirs), (v, ours) = pair(name, options)
    (w2, theirs2), (v2, ours2) = pair(name, options)
    train(w, theirs, range(5))
    train(v, ours, range(5))
    for weights, optimizer, others, other in ((w2, theirs2, v, ours), (v2, ours2, w, theirs)):
        for mine, given in zip(weights, others, strict=True):
            mine.data.copy_(given.data)
        optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    for weights, optimizer in ((w, theirs), (v, ours), (w2, theirs2), (v2, ours2)):
        train(weights, optimizer, range(5, 12))
    assert_same(theirs, theirs2)
    assert_same(theirs, ours2)
    assert_same(theirs, ours)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_goes_on_alike(copied: Callable[[Any], Any]) -> None:
    weights, optimizer = pair("Adam", dict(lr=0.1))[1]
    train(weights, optimizer, range(4))
    other_weights, other = copied((weights, optimizer))
    train(weights, optimizer, range(4, 8))
    train(other_weights, other, range(4, 8))
    assert_same(optimizer, other, **exact())


def test_groups_schedules_and_late_parameters() -> None:
    made = []
    for kind in (torch.optim.Adam, optim.Adam):
        weights = parameters()
        groups = [dict(params=weights[:2], lr=0.1, weight_decay=0.1), dict(params=weights[2:4])]
        optimizer = kind(groups, lr=0.01)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        for step in range(6):
            if step == 3:
                optimizer.add_param_group(dict(params=weights[4:], amsgrad=True))
                schedule.base_lrs.append(0.01)
            train(weights, optimizer, range(step, step + 1))
            schedule.step()
        made.append(optimizer)
    assert_same(*made)


def test_tensors_may_be_replaced_between_steps() -> None:
    made = []
    for weights, optimizer in pair("Adam", dict(lr=0.1)):
        train(weights, optimizer, range(3))
        weights[0].data = weights[0].data.clone()
        optimizer.state[weights[1]]["exp_avg"] = torch.ones(5)
        optimizer.state[weights[2]]["exp_avg_sq"].data = torch.ones(3, 5)
        optimizer.state[weights[3]] = {}
        train(weights, optimizer, range(3, 6))
        optimizer.param_groups[0]["params"][0] = weights[0] = nn.Parameter(torch.ones(5, 7))
        del optimizer.state[weights[4]]
        train(weights, optimizer, range(6, 9))
        optimizer.state = copy.deepcopy(optimizer.state)
        made.append(optimizer)
    first, second = ([g["params"] for g in o.param_groups] for o in made)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


def test_a_gradient_with_gaps_is_read_right() -> None:
    made = []
    for weights, optimizer in pair("SGD", dict(lr=0.1)):
        weights[0].grad = torch.arange(35.0).reshape(7, 5).T
        weights[1].grad = torch.ones(1).expand(5)
        optimizer.step()
        made.append(optimizer)
    assert_same(*made)


def test_hooks_closure_and_what_they_change() -> None:
    optimizer = pair("SGD", dict(lr=1.0))[1][1]
    seen: list[str] = []

    def swapped(_: Optimizer, args: Any, kwargs: Any) -> Any:
        seen.append("before")
        return (args[0], lambda: seen.append("swapped") or 7.0), kwargs

    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    assert optimizer.step(lambda: seen.append("closure") or 3.0) == 3.0
    optimizer.register_step_pre_hook(swapped)
    assert optimizer.step(lambda: 3.0) == 7.0
    assert seen == ["closure", "after", "before", "swapped", "after"]


def test_a_profiler_sees_one_step_and_hooks_run_once() -> None:
    weights, optimizer = pair("SGD", dict(lr=1.0))[1]
    seen: list[int] = []
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    give_gradients(weights, 0)
    with torch.profiler.profile() as profile:
        optimizer.step()
    assert seen == [1]
    assert [e.key for e in profile.key_averages() if "step" in e.key] == ["Optimizer.step#SGD.step"]


def test_autograd_notices_that_weights_have_moved() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([weight], lr=0.1)
    loss = (weight * weight).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_zero_grad() -> None:
    weights, optimizer = pair("Adam", dict(lr=0.1))[1]
    give_gradients(weights, 0, without=1)
    optimizer.zero_grad(set_to_none=False)
    assert all(w.grad is None or not w.grad.any() for w in weights) and weights[0].grad is not None
    optimizer.zero_grad()
    assert all(weight.grad is None for weight in weights)


@each_case
def test_conversion_in_place(name: str, options: dict[str, Any]) -> None:
    (w, theirs), (v, converted) = (pair(name, options)[0] for _ in range(2))
    calls: list[int] = []
    converted.register_step_post_hook(lambda *_: calls.append(1))
    for start, convert in ((0, lambda _: None), (4, optim.use_kernels), (8, optim.use_torch)):
        convert(converted)
        assert optim.torch_class(converted) is type(theirs)
        assert (type(converted) is not type(theirs)) == (start == 4)
        train(w, theirs, range(start, start + 4))
        train(v, converted, range(start, start + 4))
    assert_same(theirs, converted)
    assert len(calls) == 12


def test_conversion_leaves_other_optimizers_alone() -> None:
    optimizer = torch.optim.Adagrad([nn.Parameter(torch.ones(1))])
    optim.use_kernels(optimizer)
    assert type(optimizer) is torch.optim.Adagrad


def _with_gaps() -> nn.Parameter:
    return nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).T)


def _double() -> nn.Parameter:
    return nn.Parameter(torch.ones(3, dtype=torch.float64))


def _sparse(weight: Tensor, step: int) -> Tensor:
    return torch.full_like(weight, step + 1.0).to_sparse()


OBSTACLES: dict[str, tuple[str, dict[str, Any], Callable[[], Tensor], str]] = {
    "differentiable": (
        "Adam", dict(differentiable=True), lambda: torch.ones(3), "differentiable=True",
    ),
    "float64": ("RMSprop", {}, _double, "a parameter that is float64 on cpu"),
    "gaps": ("AdamW", {}, _with_gaps, "a parameter that is float32 on cpu, not contiguous"),
    "sparse": (
        "SGD", dict(momentum=0.0), lambda: nn.Parameter(torch.ones(3)),
        "a gradient that is float32 on cpu, sparse_coo",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name,options,make,reason", OBSTACLES.values(), ids=OBSTACLES)
def test_what_has_no_kernel_takes_torchs_step(
    name: str, options: dict[str, Any], make: Callable[[], Tensor], reason: str
) -> None:
    made, hooks = [], []
    torch.optim.SGD([nn.Parameter(torch.ones(1))])  # torch wraps the step of its class
    for module in (torch.optim, optim):
        weight = make()
        optimizer = getattr(module, name)([weight], lr=0.1, **options)
        optimizer.register_step_post_hook(lambda *_: hooks.append(1))
        for step in range(3):
            sparse = "sparse" in reason
            weight.grad = _sparse(weight, step) if sparse else torch.full_like(weight, step + 1.0)
            if module is optim and step == 0:
                with pytest.warns(UserWarning, match=f"optim.{name}: no kernel for {reason}"):
                    optimizer.step()
            else:
                optimizer.step()
        made.append(optimizer)
    assert_same(*made, **exact())
    assert len(hooks) == 6


def test_a_network_may_leave_the_kernels_and_return() -> None:
    made = []
    for weights, optimizer in pair("SGD", dict(lr=0.1, momentum=0.9, dampening=0.5)):
        for (start, stop), kind in zip(
            pairwise((0, 3, 6, 9)), (torch.float64, torch.float32) * 2, strict=False
        ):
            for weight in weights:
                weight.grad = None
                weight.data = weight.data.to(kind)
            for state in optimizer.state.values():
                state["momentum_buffer"] = state["momentum_buffer"].to(kind)
            for step in range(start, stop):
                for weight in weights:
                    weight.grad = torch.full_like(weight, step - 4.0)
                if step == 0 and type(optimizer) is optim.SGD:
                    with pytest.warns(UserWarning, match="float64"):
                        optimizer.step()
                else:
                    optimizer.step()
        made.append(optimizer)
    assert_same(*made)


def test_state_of_another_size_is_torchs_error() -> None:
    weight = nn.Parameter(torch.ones(4))
    optimizer = optim.Adam([weight])
    weight.grad = torch.ones(4)
    optimizer.step()
    optimizer.state[weight]["exp_avg"] = torch.ones(3)
    with pytest.warns(UserWarning, match="a state whose exp_avg is"), pytest.raises(RuntimeError):
        optimizer.step()


def test_options_are_checked_by_torch() -> None:
    with pytest.raises(ValueError, match="Invalid learning rate"):
        optim.Adam([nn.Parameter(torch.ones(1))], lr=-1.0)
