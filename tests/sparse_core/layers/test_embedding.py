"""Masked and condensed embeddings compute what a dense one with zeros does."""

import copy
import pickle

import pytest
import torch
from torch import nn

from sparse_core import condense
from sparse_core.layers.dense import become_dense
from sparse_core.layers.embedding import (
    CondensedEmbedding,
    become_condensed_embedding,
    become_masked_embedding,
)


def made(padding=None, dtype=torch.float32):
    """A dense embedding with zeros, its mask, and its two sparse forms."""
    torch.manual_seed(0)
    dense = nn.Embedding(11, 6, padding_idx=padding, dtype=dtype)
    nn.init.normal_(dense.weight)
    mask = torch.rand(11, 6) < 0.4
    mask[4] = False
    with torch.no_grad():
        dense.weight.mul_(mask)
    masked, condensed = copy.deepcopy(dense), copy.deepcopy(dense)
    become_masked_embedding(masked, mask)
    become_condensed_embedding(condensed, mask, capacity=int(mask.sum()) + 5)
    return dense, mask, masked, condensed


INPUTS = [torch.tensor(4), torch.tensor([3, 3, 0, 10]), torch.randint(11, (2, 3, 4))]
INPUTS += [torch.zeros(0, dtype=torch.int64), torch.arange(10, dtype=torch.int32).reshape(5, 2).T]


@pytest.mark.parametrize("input", INPUTS, ids=lambda t: str(tuple(t.shape)))
@pytest.mark.parametrize("padding", [None, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_all_forms_agree(input, padding, dtype):
    dense, mask, masked, condensed = made(padding, dtype)
    expected = dense(input)
    expected.square().sum().backward()
    for layer in (masked, condensed):
        out = layer(input)
        assert torch.equal(out, expected)
        out.square().sum().backward()
    wanted = dense.weight.grad * mask
    torch.testing.assert_close(masked.weight.grad, wanted)
    torch.testing.assert_close(condensed.values.grad[: int(mask.sum())], wanted[mask])
    assert not condensed.values.grad[int(mask.sum()) :].any()


def test_condense_takes_embeddings_too():
    _, _, masked, condensed = made(padding=3)
    tokens = torch.tensor([[1, 2, 3], [10, 0, 4]])
    small = condense(nn.Sequential(masked, nn.Linear(6, 2)))
    assert type(small[0]) is CondensedEmbedding and not small[0].values.requires_grad
    assert torch.equal(small[0](tokens), condensed(tokens))


@pytest.mark.parametrize("padding", [None, 3])
def test_the_tap_sees_the_dense_gradient_in_both_forms(padding):
    dense, _, masked, condensed = made(padding)
    tokens = torch.tensor([[3, 1, 1], [10, 4, 3]])
    weights = torch.randn(2, 3, 6)
    (dense(tokens) * weights).sum().backward()
    for layer in (masked, condensed):
        layer.weight_tap.arm(True)
        (layer(tokens) * weights).sum().backward()
        assert torch.equal(layer.weight_tap.gradient(), dense.weight.grad)
        with torch.no_grad():
            layer(tokens)
        layer.weight_tap.arm(False)
        layer(tokens).sum().backward()
        assert layer.weight_tap.gradient() is None


def test_weights_of_earlier_tasks_are_read_and_get_no_gradient():
    _, mask, masked, condensed = made()
    tokens = torch.arange(11)
    expected = masked(tokens).detach()
    protected = mask & (torch.arange(6) < 3)
    masked.weight_protected = protected
    condensed.weight_protected = protected
    condensed.weight_frozen = condensed.dense_weight()
    condensed.derive()
    for layer in (masked, condensed):
        out = layer(tokens)
        assert torch.equal(out, expected)
        out.sum().backward()
    assert torch.equal(masked.weight.grad, (mask & ~protected).float())
    gradient = condensed.pattern.expand(condensed.values.grad.numpy())
    assert torch.equal(torch.from_numpy(gradient), masked.weight.grad)


def test_gradcheck():
    layer = made(dtype=torch.float64)[3]
    tokens = torch.tensor([0, 4, 7, 7])
    assert torch.autograd.gradcheck(lambda _: layer(tokens), (layer.values,))


def test_conversion_is_lossless():
    dense, mask, masked, condensed = made(padding=2)
    assert condensed.values.shape == (int(mask.sum()) + 5,)
    assert condensed.pattern.nnz == int(mask.sum())
    become_condensed_embedding(masked, mask)
    assert type(masked) is CondensedEmbedding and set(masked.state_dict()) == {
        "values",
        "columns",
        "lengths",
    }
    for layer in (masked, condensed):
        assert torch.equal(layer.mask(), mask)
        become_dense(layer)
        assert type(layer) is nn.Embedding and torch.equal(layer.weight, dense.weight)
        assert layer.padding_idx == 2


def test_state_copies_and_pickles():
    condensed = made()[3]
    tokens = torch.arange(11)
    for twin in (copy.deepcopy(condensed), pickle.loads(pickle.dumps(condensed))):
        assert torch.equal(twin(tokens), condensed(tokens))
    spoilt = condensed.state_dict() | {"columns": torch.full_like(condensed.columns, 6)}
    with pytest.raises(RuntimeError, match="column 6, allowed are 0 to 5"):
        condensed.load_state_dict(spoilt)


@pytest.mark.parametrize(
    ("input", "error", "message"),
    [
        (torch.tensor([0, 11]), IndexError, r"tokens must be in \[0, 11\), got 0 to 11"),
        (torch.tensor([-1]), IndexError, r"tokens must be in \[0, 11\), got -1 to -1"),
        (torch.tensor([1.0]), TypeError, "input must be int32 or int64, got torch.float32"),
    ],
)
def test_wrong_tokens_are_named(input, error, message):
    with pytest.raises(error, match=message):
        made()[3](input)


@pytest.mark.parametrize("become", [become_masked_embedding, become_condensed_embedding])
def test_what_needs_the_dense_weight_is_refused(become):
    mask = torch.ones(3, 2, dtype=torch.bool)
    for option in (dict(max_norm=1.0), dict(scale_grad_by_freq=True), dict(sparse=True)):
        with pytest.raises(ValueError, match=f"{next(iter(option))}=.*needs a dense embedding"):
            become(nn.Embedding(3, 2, **option), mask)
    with pytest.raises(ValueError, match=r"mask must be bool of shape \(3, 2\)"):
        become(nn.Embedding(3, 2), mask.T)
