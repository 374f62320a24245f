"""Losses: a table worked by hand, autograd of dense targets, and SciPy's CSR on 2,000 labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sparse_core.building import sparsify
from sparse_core.config import SparseConfig
from sparse_core.imports import load
from supervised.xmc import spec
from supervised.xmc.model import OneVsAll
from tests.supervised.data.test_rows import random_matrix, rows_of

LOSSES = {name: load("loss", source, "a loss") for name, source in spec.LOSSES.items()}
DENSE = {
    "bce": lambda z, y: F.binary_cross_entropy_with_logits(z, y, reduction="sum"),
    "squared_hinge": lambda z, y: (1 - (2 * y - 1) * z).relu().square().sum(),
    "softmax": lambda z, y: -(y * z.log_softmax(1)).sum(),
}
ONE_VS_ALL = ("bce", "squared_hinge")
SUM = sum(math.exp(z) for z in (0, 2, -3, 0.5))


@pytest.mark.parametrize(
    ("kind", "value", "gradient"),
    [
        # Logits 0, 2, -3, 0.5; the second and the third label belong to the sample.
        ("squared_hinge", 1 + 0 + 16 + 2.25, [2, 0, -8, 3]),
        (
            "bce",
            sum(math.log1p(math.exp(z)) for z in (0, -2, 3, 0.5)),
            [1 / (1 + math.exp(-z)) - y for z, y in ((0, 0), (2, 1), (-3, 1), (0.5, 0))],
        ),
        (
            "softmax",
            2 * math.log(SUM) - 2 + 3,
            [2 * math.exp(z) / SUM - y for z, y in ((0, 0), (2, 1), (-3, 1), (0.5, 0))],
        ),
    ],
)
def test_the_table(kind, value, gradient):
    logits = torch.tensor([[0, 2, -3, 0.5]], dtype=torch.float64)
    total = LOSSES[kind](logits, torch.tensor([0, 0]), torch.tensor([1, 2]))
    assert float(total) == pytest.approx(value, rel=1e-12)
    assert logits.tolist()[0] == pytest.approx(gradient, rel=1e-12)


@pytest.mark.parametrize("kind", LOSSES)
@given(seed=st.integers(0, 999), count=st.integers(1, 6), labels=st.integers(1, 6))
def test_value_and_gradient_are_those_of_dense_targets(kind, seed, count, labels):
    targets = torch.from_numpy(random_matrix(seed, count, labels, 0.3) > 0).double()
    logits = 3 * torch.randn(count, labels, generator=torch.Generator().manual_seed(seed))
    logits = logits.double().requires_grad_()
    expected = DENSE[kind](logits, targets)
    expected.backward()
    found = logits.detach().clone()
    total = LOSSES[kind](found, *targets.nonzero().unbind(1))
    assert float(total) == pytest.approx(float(expected.detach()), rel=1e-9, abs=1e-12)
    torch.testing.assert_close(found, logits.grad, rtol=1e-9, atol=1e-12)


def test_large_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4, 1e4]])
    assert float(LOSSES["bce"](logits, torch.tensor([0]), torch.tensor([2]))) == 1e4
    assert logits.tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("backend", ["masked", "condensed"])
@pytest.mark.parametrize("kind", ONE_VS_ALL)
def test_a_step_is_that_of_scipy_on_2000_labels(kind, backend):
    samples, features, labels, fan_in = 64, 400, 2000, 20
    x, y = random_matrix(1, samples, features, 0.05), random_matrix(2, samples, labels, 0.01) > 0
    torch.manual_seed(0)
    model = OneVsAll(features, labels, block=768)
    config = SparseConfig(
        method="static",
        structure="constant_fan_in",
        distribution="uniform",
        sparsity=0.95,
        backend=backend,
    )
    sparsify(model, config, roles={"output.*": "output"})
    loss = model.backward(rows_of(x), rows_of(y), LOSSES[kind])

    weight = np.concatenate([dense_weight(layer) for layer in model.output])
    assert (np.count_nonzero(weight, axis=1) == fan_in).all()
    bias = np.concatenate([layer.bias.detach().numpy() for layer in model.output])
    csr_x = scipy.sparse.csr_array(x.astype(np.float64))
    logits = (csr_x @ scipy.sparse.csr_array(weight.astype(np.float64)).T).todense() + bias
    if kind == "bce":
        expected = np.logaddexp(0, logits).sum() - logits[y].sum()
        slope = 1 / (1 + np.exp(-logits)) - y
    else:
        sign = np.where(y, 1, -1)
        missing = np.maximum(0, 1 - sign * logits)
        expected, slope = (missing**2).sum(), -2 * sign * missing
    slope /= samples
    # float32: products of `fan_in` terms, gradients of `samples` terms, each of a few roundings
    assert float(loss) == pytest.approx(expected / samples, rel=1e-4)
    gradient = (csr_x.T @ scipy.sparse.csr_array(slope)).T.todense() * (weight != 0)
    found = np.concatenate([dense_gradient(layer) for layer in model.output])
    tolerance = samples * 2.0**-23 * np.abs(slope).max() * np.abs(x).max() * 4
    np.testing.assert_allclose(found, gradient, rtol=0, atol=tolerance)
    biases = np.concatenate([layer.bias.grad.numpy() for layer in model.output])
    np.testing.assert_allclose(biases, slope.sum(0), rtol=0, atol=tolerance)


def dense_weight(layer) -> np.ndarray:
    if hasattr(layer, "dense_weight"):
        return layer.dense_weight().numpy()
    return (layer.weight * layer.weight_mask).detach().numpy()


def dense_gradient(layer) -> np.ndarray:
    if hasattr(layer, "dense_weight"):
        return layer.pattern.expand(layer.values.grad.numpy())
    return layer.weight.grad.numpy()
