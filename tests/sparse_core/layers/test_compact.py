"""Layers on inputs of few features: the numbers of dense inputs, and of SciPy's CSR."""

from __future__ import annotations

import pytest
import torch
from scipy.sparse import csr_matrix

from sparse_core import CondensedLinear
from sparse_core.checks import InputError
from sparse_core.layers.compact import CompactInput


def compact(samples, width, columns):
    numbers = torch.randn(samples, len(columns), generator=torch.manual_seed(1))
    return CompactInput(numbers, torch.tensor(columns), width)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("samples", "group"), [(1, 1), (9, 1), (40, 4), (9, 16)])
def test_outputs_and_gradients_are_those_of_the_dense_input(samples, group, dtype):
    layer = CondensedLinear(30, 22, fan_in=5, group=group, dtype=dtype)
    x = compact(samples, 30, [2, 3, 11, 29])
    x = CompactInput(x.numbers.to(dtype), x.columns, x.width)
    found = []
    for given in (x, x.dense()):
        layer.zero_grad()
        out = layer(given)
        (out - 1).square().sum().backward()
        found.append((out.detach(), layer.values.grad.clone(), layer.bias.grad.clone()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_loss_and_gradients_are_those_of_scipy_on_two_thousand_rows():
    """Squared hinge of 2,000 labels on 5,000 features."""
    width, labels, samples = 5_000, 2_000, 16
    layer = CondensedLinear(width, labels, fan_in=32, seed=3)
    columns = torch.randperm(width, generator=torch.manual_seed(0))[:700].sort()[0]
    x = CompactInput(torch.randn(samples, 700, generator=torch.manual_seed(1)), columns, width)
    signs = torch.randn(samples, labels, generator=torch.manual_seed(2)).sign()
    loss = (1 - signs * layer(x)).relu().square().sum()
    loss.backward()
    pattern = layer.pattern
    weight = csr_matrix(
        (layer.values.detach().double().numpy(), pattern.columns, pattern.indptr),
        shape=(labels, width),
    )
    inputs = csr_matrix(x.dense().double().numpy())
    logits = torch.from_numpy((inputs @ weight.T).toarray()) + layer.bias.detach().double()
    margin = (1 - signs * logits).relu()
    assert loss.item() == pytest.approx(margin.square().sum().item(), rel=1e-5)
    signal = -2 * signs * margin
    full = (inputs.T @ signal.numpy()).T
    rows, cols, _ = pattern.coordinates()
    expected = torch.from_numpy(full[rows, cols]).float()
    torch.testing.assert_close(layer.values.grad, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.bias.grad, signal.sum(0).float(), rtol=1e-4, atol=1e-3)


def test_the_dense_form_puts_features_in_their_places():
    x = CompactInput(torch.tensor([[1.0, 2.0]]), torch.tensor([1, 3]), 5)
    assert x.dense().tolist() == [[0, 1, 0, 2, 0]]


def test_another_number_of_features_is_refused():
    with pytest.raises(InputError, match="input must have 8 features, got 5"):
        CondensedLinear(8, 3, fan_in=2)(compact(2, 5, [0, 4]))
