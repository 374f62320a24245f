"""Every kernel for GPUs computes what its plain function says, whatever the shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_core.kernels import Pattern, reference
from sparse_core.kernels.format import GROUPS
from sparse_core.kernels.gpu.index import DeviceIndex
from tests.sparse_core.kernels.gpu.machine import DEVICE
from tests.sparse_core.kernels.patterns import Problem, close, problems

launch = pytest.importorskip("sparse_core.kernels.gpu.launch")
activations = pytest.importorskip("sparse_core.kernels.gpu.activations")
ACTIVATIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
}


def index_of(pattern: Pattern, capacity: int) -> DeviceIndex:
    """Return a pattern's index with room for more slots, whose columns mean nothing."""
    columns = np.full(-(-capacity // pattern.group), 2**30, np.int32)
    columns[: pattern.slots] = pattern.columns
    lengths = on_device(pattern.lengths)
    shape = pattern.in_features, pattern.out_features, pattern.group
    return DeviceIndex.of(on_device(columns), lengths, *shape)


def on_device(array: Any) -> Tensor:
    return torch.from_numpy(array).to(DEVICE)


def check(problem: Problem) -> None:
    """Compare a layer's products and gradients, on rows and on columns of samples."""
    p, capacity = problem.pattern, problem.values.size
    index, values = index_of(p, capacity), on_device(problem.values)
    rows, bias, dy = map(on_device, (problem.x, problem.bias, problem.dy))
    x, signal = launch.turned(rows), launch.turned(dy)
    close(x.T.cpu().numpy(), problem.x)
    for input, relu in ((x, False), (rows.T, True)):
        out = launch.forward_of(index, values, input, bias, "relu" if relu else None)
        expected = reference.forward(p, problem.values, problem.x, problem.bias, relu)
        close(out.T.cpu().numpy(), expected)
    unbiased = launch.forward_of(index, values, x, None)
    close(unbiased.T.cpu().numpy(), reference.forward(p, problem.values, problem.x))
    for gradient in (signal, dy.T):
        dx = launch.input_gradient_of(index, values, gradient)
        close(dx.T.cpu().numpy(), reference.grad_input(p, problem.values, problem.dy))
        dvalues = launch.value_gradient_of(index, x, gradient, capacity)
        expected = reference.grad_values(p, problem.x, problem.dy, capacity)
        close(dvalues.cpu().numpy(), expected)
    sums = launch.through(signal, None, None, sums=True)
    assert sums is not None
    close(sums.cpu().numpy(), reference.grad_bias(problem.dy))


@pytest.mark.parametrize("group", GROUPS)
def test_products_and_gradients(group: int) -> None:
    check(Problem(group, group + 3, 11, group, 5))


@pytest.mark.parametrize("group", [1, 16])
def test_empty_batches(group: int) -> None:
    check(Problem(group, 2 * group + 3, 11, group, 0))


@pytest.mark.parametrize(("density", "ablated"), [(0.0, 0.0), (1.0, 1.0), (1.0, 0.0)])
def test_empty_and_full_matrices(density: float, ablated: float) -> None:
    for group in (1, 16):
        check(Problem(0, 18, 3, group, 2, density, ablated))


@pytest.mark.slow
@settings(max_examples=60)
@given(problems(GROUPS, st.integers(0, 70)))
def test_all_shapes(problem: Problem) -> None:
    check(problem)


@pytest.mark.parametrize("group", [1, 4, 16])
def test_bfloat16(group: int) -> None:
    if group == 16 and DEVICE.type == "cpu":
        pytest.skip("Triton's interpreter multiplies the bits of bfloat16 matrices")
    problem = Problem(group, group + 3, 11, group, 5)
    p, capacity = problem.pattern, problem.values.size
    rounded = [on_device(array).bfloat16() for array in (problem.values, problem.x, problem.bias)]
    values, x, bias = rounded
    exact = [tensor.float().cpu().numpy() for tensor in rounded]
    out = launch.forward_of(index_of(p, capacity), values, x.T, bias)
    assert out.dtype == torch.bfloat16
    # Sums are float32; only the result is rounded: to 8 bits, by the interpreter downwards.
    expected = reference.forward(p, exact[0], exact[1], exact[2])
    np.testing.assert_allclose(out.T.float().cpu().numpy(), expected, rtol=2**-7, atol=1e-5)
    dx = launch.input_gradient_of(index_of(p, capacity), values, out)
    seen = out.T.float().cpu().numpy()
    expected = reference.grad_input(p, exact[0], seen)
    np.testing.assert_allclose(dx.T.float().cpu().numpy(), expected, rtol=2**-7, atol=1e-4)
    dvalues = launch.value_gradient_of(index_of(p, capacity), x.T, out, capacity)
    expected = reference.grad_values(p, exact[1], seen, capacity)
    np.testing.assert_allclose(dvalues.float().cpu().numpy(), expected, rtol=2**-7, atol=1e-4)


@pytest.mark.parametrize("activation", [*ACTIVATIONS])
@pytest.mark.parametrize("group", [1, 16])
def test_fused_activations(group: int, activation: str) -> None:
    problem = Problem(3, group + 3, 7, group, 5)
    index, values = index_of(problem.pattern, problem.values.size), on_device(problem.values)
    x, bias, dy = map(on_device, (problem.x, problem.bias, problem.dy))
    out = x.new_empty(index.out_features, problem.batch)
    before = torch.empty_like(out)
    launch.forward_of(index, values, x.T, bias, activation, out=out, before=before)
    plain = launch.forward_of(index, values, x.T, bias)
    assert torch.equal(before, plain)
    z = plain.clone().requires_grad_()
    expected = ACTIVATIONS[activation](z)
    torch.testing.assert_close(out, expected.detach(), rtol=1e-5, atol=1e-6)
    expected.backward(dy.T)
    signal, seen = launch.turned(dy), before if activation in activations.READS_INPUT else out
    sums = launch.through(signal, seen, activation, sums=True)
    assert z.grad is not None and sums is not None
    torch.testing.assert_close(signal, z.grad, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(sums, z.grad.sum(1), rtol=1e-5, atol=1e-5)


def test_rows_of_any_strides_are_turned() -> None:
    x = torch.arange(12.0).reshape(3, 4).to(DEVICE)
    for rows in (x.T, x[:, ::2], x[1:, 1:], x[:1].expand(5, 4), x[:, :1].expand(3, 6)):
        out = launch.turned(rows)
        assert out.is_contiguous() and torch.equal(out, rows.T)


def test_activations_keep_nan() -> None:
    assert set(ACTIVATIONS) == {name for name in activations.CODES if name is not None}
    problem = Problem(0, 5, 4, 1, 2)
    index = index_of(problem.pattern, problem.values.size)
    bias = on_device(problem.bias)
    bias[0] = float("nan")
    out = launch.forward_of(index, on_device(problem.values), on_device(problem.x).T, bias, "relu")
    assert bool(out[0].isnan().all()) and not bool(out[1:].isnan().any())


def test_look_ups() -> None:
    problem = Problem(0, 9, 12, 1, 1, ablated=0.3)
    p, capacity = problem.pattern, problem.values.size
    index, values = index_of(p, capacity), on_device(problem.values)
    tokens = torch.tensor([3, 0, 8, 3, 3], device=DEVICE)
    vectors = launch.look_up(index, values, tokens)
    dense = torch.from_numpy(problem.dense)[tokens.cpu()]
    assert torch.equal(vectors.cpu(), dense)
    dy = torch.randn(5, 12, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    gradient = launch.look_up_gradient(index, tokens, dy, capacity)
    of_matrix = torch.zeros(9, 12).index_add_(0, tokens.cpu(), dy.cpu())
    close(gradient.cpu().numpy(), p.condense(of_matrix.numpy(), capacity))
    none = launch.look_up(index, values, tokens[:0])
    assert none.shape == (0, 12)
