"""Optimizers' kernels against torch's optimizers and hand-computed steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

from sparse_core.kernels.optimizer_steps import Rule
from sparse_core.kernels.optimizers import (
    Row,
    Tensors,
    adam_numbers,
    optimizer_kernel,
    rmsprop_numbers,
    sgd_numbers,
)

Array = NDArray[np.float32]


def run(rule: Rule, arrays: list[Array], numbers: Row) -> None:
    optimizer_kernel(rule)(Tensors([arrays], rule).table, numbers[None])


def test_first_step_of_adam_by_hand() -> None:
    # m = 0.1 g, v = 0.001 g^2: m / (1 - 0.9) over sqrt(v / (1 - 0.999)) is the sign of g.
    p, g, m, v = (np.array(a, np.float32) for a in ([1, 2, 3], [4, -2, 0], [0] * 3, [0] * 3))
    run(Rule("adam"), [p, g, m, v], adam_numbers(1, lr=0.5))
    np.testing.assert_allclose(p, [0.5, 2.5, 3.0], rtol=1e-6)
    np.testing.assert_allclose(m, [0.4, -0.2, 0.0], rtol=1e-6)
    np.testing.assert_allclose(v, [0.016, 0.004, 0.0], rtol=1e-6)


def test_two_steps_of_momentum_by_hand() -> None:
    # b = 4, then 0.5 * 4 + (1 - 0.25) * 4 = 5: the first gradient enters undampened.
    p, g, b = (np.array([a], np.float32) for a in (1.0, 4.0, 0.0))
    rule = Rule("sgd", momentum=True)
    for first, expected in ((True, 0.6), (False, 0.1)):
        run(rule, [p, g, b], sgd_numbers(first, lr=0.1, momentum=0.5, dampening=0.25))
        np.testing.assert_allclose(p, [expected], rtol=1e-6)


def test_polyak_average_by_hand() -> None:
    p, g, target = (np.array([a], np.float32) for a in (1.0, 5.0, 2.0))
    run(Rule("sgd", polyak=True), [p, g, target], sgd_numbers(True, lr=0.1, tau=0.25))
    assert (p[0], target[0]) == (0.5, 1.625)


CASES: dict[str, tuple[Rule, Callable[..., Any], dict[str, Any], Callable[[int], Row]]] = {
    "Adam": (Rule("adam"), torch.optim.Adam, {"lr": 0.01}, lambda t: adam_numbers(t, 0.01)),
    "Adam with L2, ascending": (
        Rule("adam"),
        torch.optim.Adam,
        {"lr": 0.01, "weight_decay": 0.1, "maximize": True, "eps": 1e-3},
        lambda t: adam_numbers(t, 0.01, eps=1e-3, weight_decay=0.1, maximize=True),
    ),
    "AdamW, amsgrad, betas the other way about": (
        Rule("adam", amsgrad=True),
        torch.optim.AdamW,
        {"lr": 0.01, "betas": (0.3, 0.4), "weight_decay": 0.1, "amsgrad": True},
        lambda t: adam_numbers(t, 0.01, (0.3, 0.4), weight_decay=0.1, decoupled=True),
    ),
    "SGD": (
        Rule("sgd"),
        torch.optim.SGD,
        {"lr": 0.1, "weight_decay": 0.1},
        lambda t: sgd_numbers(t == 1, 0.1, weight_decay=0.1),
    ),
    "SGD with momentum": (
        Rule("sgd", momentum=True),
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.2},
        lambda t: sgd_numbers(t == 1, 0.1, 0.9, 0.2),
    ),
    "SGD, Nesterov": (
        Rule("sgd", momentum=True, nesterov=True),
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        lambda t: sgd_numbers(t == 1, 0.1, 0.9),
    ),
    "RMSprop": (
        Rule("rmsprop"),
        torch.optim.RMSprop,
        {"lr": 0.01, "weight_decay": 0.1},
        lambda t: rmsprop_numbers(0.01, weight_decay=0.1),
    ),
    "RMSprop, centred, with momentum": (
        Rule("rmsprop", centered=True, momentum=True),
        torch.optim.RMSprop,
        {"lr": 0.01, "alpha": 0.9, "eps": 0.1, "centered": True, "momentum": 0.9},
        lambda t: rmsprop_numbers(0.01, 0.9, 0.1, momentum=0.9),
    ),
    "RMSprop as TensorFlow's": (
        Rule("rmsprop", eps_inside=True),
        RMSpropTFLike,
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-5},
        lambda t: rmsprop_numbers(0.01, 0.9, 1e-5),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_steps_are_torchs(case: str) -> None:
    rule, kind, options, numbers = CASES[case]
    rng = np.random.default_rng(0)
    p: Array = rng.normal(size=37).astype(np.float32)
    g, states = np.zeros_like(p), [np.zeros_like(p) for _ in rule.states]
    if rule.eps_inside:
        states[0][:] = 1.0
    reference = torch.nn.Parameter(torch.tensor(p))
    optimizer = kind([reference], **options)
    for step in range(1, 21):
        g[:] = rng.normal(size=p.size)
        reference.grad = torch.tensor(g)
        optimizer.step()
        run(rule, [p, g, *states], numbers(step))
    np.testing.assert_allclose(p, reference.detach().numpy(), rtol=2e-6, atol=2e-6)
    for name, state in zip(rule.states, states, strict=True):
        expected = optimizer.state[reference][name].numpy()
        np.testing.assert_allclose(state, expected, rtol=2e-6, atol=2e-6, err_msg=name)


def test_an_entrys_step_does_not_depend_on_where_it_lies() -> None:
    rng, rule = np.random.default_rng(0), Rule("adam", amsgrad=True, polyak=True)
    whole = [rng.random(67).astype(np.float32) for _ in range(6)]
    one_by_one = [[array[i : i + 1].copy() for array in whole] for i in range(67)]
    numbers = np.repeat(adam_numbers(3, 0.01, weight_decay=0.1, tau=0.01)[None], 67, 0)
    optimizer_kernel(rule)(Tensors(one_by_one, rule).table, numbers)
    run(rule, whole, numbers[0])
    for k, array in enumerate(whole):
        np.testing.assert_array_equal(array, [entry[k][0] for entry in one_by_one])


def test_amsgrads_largest_moment_keeps_nan() -> None:
    p, g, m, v, largest = (np.array([a], np.float32) for a in (1, 1, 0, 0, np.nan))
    run(Rule("adam", amsgrad=True), [p, g, m, v, largest], adam_numbers(1, 0.1))
    assert np.isnan(largest[0]) and np.isnan(p[0])


@pytest.mark.parametrize("gradient", [0.0, 1e-30])
def test_moments_never_become_subnormal(gradient: float) -> None:
    p, g, m, v = (np.array([a], np.float32) for a in (1, gradient, 1.2e-38, 1.2e-38))
    run(Rule("adam"), [p, g, m, v], adam_numbers(1000, 0.1, (0.9, 0.9)))
    assert v[0] == 0 and (m[0] == 0) == (gradient == 0)


def test_arrays_that_no_kernel_could_read() -> None:
    fine = np.zeros(4, np.float32)
    for wrong in (np.zeros(4), np.zeros(5, np.float32), np.zeros(8, np.float32)[::2]):
        with pytest.raises(ValueError, match="must be 4 contiguous float32"):
            Tensors([[fine, wrong]], Rule("sgd"))
    with pytest.raises(ValueError, match="takes 4 arrays, got 2"):
        Tensors([[fine, fine]], Rule("adam"))
