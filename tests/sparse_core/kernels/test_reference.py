"""The plain functions agree with dense algebra, and their gradients with differences."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.kernels import reference
from tests.sparse_core.kernels.patterns import Problem, problems

SMALL = problems((1, 2, 4, 8), st.integers(1, 5))


@given(SMALL)
def test_products_are_those_of_the_dense_matrix(problem: Problem) -> None:
    p, values, x, dy = problem.pattern, problem.values, problem.x, problem.dy
    y = reference.forward(p, values, x, problem.bias)
    np.testing.assert_allclose(y, x @ problem.dense.T + problem.bias, atol=1e-4)
    np.testing.assert_allclose(reference.grad_input(p, values, dy), dy @ problem.dense, atol=1e-4)
    dvalues = reference.grad_values(p, x, dy, values.size)
    np.testing.assert_allclose(dvalues, p.condense(dy.T @ x, values.size), atol=1e-4)
    np.testing.assert_allclose(reference.grad_bias(dy), dy.sum(0), atol=1e-4)


def test_gradients_are_differences() -> None:
    problem = Problem(0, 6, 9, 2, 4, dtype=np.float64)
    p, x, dy = problem.pattern, problem.x, problem.dy
    values = np.where(np.isnan(problem.values), 0, problem.values)

    def loss(values: np.ndarray, x: np.ndarray) -> float:
        hidden = reference.forward(p, values, x, problem.bias)
        return float((dy * reference.tanh(hidden)).sum())

    hidden = reference.forward(p, values, x, problem.bias)
    d = reference.tanh_backward(dy, reference.tanh(hidden))
    dvalues, dx = reference.grad_values(p, x, d, values.size), reference.grad_input(p, values, d)
    step = 1e-6
    for i in range(p.size):
        e = np.zeros_like(values)
        e[i] = step
        slope = (loss(values + e, x) - loss(values - e, x)) / (2 * step)
        assert abs(slope - dvalues[i]) < 1e-7
    for index in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[index] = step
        slope = (loss(values, x + e) - loss(values, x - e)) / (2 * step)
        assert abs(slope - dx[index]) < 1e-7


def test_layouts_by_hand() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    blocked = reference.pack(x, 2)
    assert blocked.tolist() == [[[0, 2], [1, 3]], [[4, 0], [5, 0]]]
    assert reference.unpack(blocked, 3).tolist() == x.tolist()


def test_activations_by_hand() -> None:
    x = np.array([-1.0, -0.0, 2.0, np.nan, np.inf])
    np.testing.assert_array_equal(reference.relu(x), [0, 0, 2, np.nan, np.inf])
    dy = np.full(5, 3.0)
    np.testing.assert_array_equal(reference.relu_backward(dy, reference.relu(x)), [0, 0, 3, 3, 3])
    assert reference.tanh_backward(np.array([2.0]), np.array([0.5])).tolist() == [1.5]
