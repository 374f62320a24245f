"""Look-ups of condensed rows and the sums of their gradients, against dense matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.kernels import embedding
from sparse_core.kernels.embedding import look_up, look_up_gradient
from sparse_core.kernels.format import Pattern
from sparse_core.layers.gathered_rows import Gather


def made(rows: int, cols: int, seed: int):
    generator = np.random.default_rng(seed)
    mask = generator.random((rows, cols)) < 0.3
    mask[rows // 2] = False
    pattern = Pattern.from_mask(mask)
    values = generator.standard_normal(pattern.size + 3).astype(np.float32)
    return pattern, values, generator


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 60), st.integers(0, 2**16))
def test_both_are_what_dense_matrices_give(rows, cols, count, seed):
    pattern, values, generator = made(rows, cols, seed)
    tokens = generator.integers(0, rows, count)
    assert np.array_equal(look_up(pattern, values, tokens), pattern.expand(values)[tokens])
    gradient = generator.standard_normal((count, cols)).astype(np.float32)
    dense = np.zeros((rows, cols), np.float32)
    np.add.at(dense, tokens, gradient)
    found = look_up_gradient(pattern, gradient, tokens, values.size)
    assert np.array_equal(found[: pattern.size], pattern.condense(dense))
    assert not found[pattern.size :].any()
    padding = int(generator.integers(0, rows))
    dense[padding] = 0
    found = look_up_gradient(pattern, gradient, tokens, values.size, padding=padding)
    assert np.array_equal(found[: pattern.size], pattern.condense(dense))


def test_threads_make_no_difference_to_the_bit():
    """The parallel kernel cut in parts, whatever number of threads runs them."""
    pattern, values, generator = made(50, 24, 0)
    tokens = generator.integers(0, 50, 400)
    gradient = generator.standard_normal((400, 24)).astype(np.float32)
    one, begins = (
        look_up_gradient(pattern, gradient, tokens, values.size),
        embedding._begins(pattern),
    )
    for chunks in (1, 2, 3, 7):
        out = np.zeros_like(one)
        run = embedding.scatter_kernel(pattern.index, True)
        run(gradient, pattern.columns, begins, tokens, embedding.NOBODY, out, chunks)
        assert np.array_equal(out, one)


def test_gradients_of_gradients_are_those_of_a_dense_matrix():
    pattern, values, generator = made(9, 5, 1)
    tokens = torch.from_numpy(generator.integers(0, 9, 12))
    padding = int(tokens[0])
    weights = torch.from_numpy(generator.standard_normal((12, 5)).astype(np.float32))
    stored = torch.from_numpy(values).requires_grad_()
    dense = torch.from_numpy(pattern.expand(values)).requires_grad_()
    found = []
    for matrix, table in (
        (stored, lambda: Gather.apply(stored, tokens, pattern, padding)),
        (dense, lambda: torch.nn.functional.embedding(tokens, dense, padding)),
    ):
        (first,) = torch.autograd.grad((table().tanh() * weights).sum(), matrix, create_graph=True)
        size = pattern.size
        first = first[:size] if first.ndim == 1 else first[torch.from_numpy(pattern.to_mask())]
        (second,) = torch.autograd.grad((first**2).sum(), matrix)
        found.append((first.detach(), second))
    mask = torch.from_numpy(pattern.to_mask())
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1][: pattern.size], found[1][1][mask])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(tokens=np.array([0, 9])), IndexError, r"tokens must be in \[0, 9\), got 0 to 9"),
        (dict(capacity=1), ValueError, "values of rows with columns of their own, got 1"),
        (dict(gradient=np.zeros((1, 5), "f4")), ValueError, r"gradient must be \(2, 5\), got"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, message):
    pattern, values, _ = made(9, 5, 1)
    given = dict(
        gradient=np.zeros((2, 5), np.float32), tokens=np.array([1, 2]), capacity=values.size
    )
    with pytest.raises(error, match=message):
        look_up_gradient(pattern, **(given | change))
