"""Lazy steps: entries without a gradient rest, and all others go on as in dense optimizers."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from torch import nn

from sparse_core import optim
from sparse_core.step.layers import CannotCompile
from sparse_core.step.trainer import Trainer
from tests.sparse_core.optim.test_optim import CASES

each_case = pytest.mark.parametrize("name,options", CASES.values(), ids=CASES)


def made(name: str, options: dict, dtype: torch.dtype = torch.float32, **more: object):
    weight = nn.Parameter(torch.linspace(-2, 2, 37, dtype=dtype))
    return weight, getattr(optim, name)([weight], **copy.deepcopy(options), **more)


def named_rows(step: int) -> torch.Tensor:
    """A gradient that has entries here and there, and never in the last five."""
    generator = torch.Generator().manual_seed(step)
    gradient = torch.randn(37, generator=generator)
    gradient[torch.rand(37, generator=generator) < 0.7] = 0
    gradient[32:] = 0
    return gradient


def test_adam_by_hand():
    """Two steps with b1 = 0.5, b2 = 0.75, no epsilon; the second entry rests in the first one."""
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer = optim.Adam([weight], lr=0.1, betas=(0.5, 0.75), eps=0.0, lazy=True)
    weight.grad = torch.tensor([2.0, 0.0])
    optimizer.step()
    # m = 1, v = 1; corrected: m / 0.5 = 2, v / 0.25 = 4: a step of lr.
    assert weight.tolist() == pytest.approx([0.9, 1.0])
    weight.grad = torch.tensor([0.0, 2.0])
    optimizer.step()
    # m = 1, v = 1 again, but corrected for two steps: (1 / 0.75) / sqrt(1 / 0.4375).
    step = 0.1 * (1 / 0.75) / math.sqrt(1 / 0.4375)
    assert weight.tolist() == pytest.approx([0.9, 1 - step])
    assert optimizer.state[weight]["exp_avg"].tolist() == [1.0, 1.0]
    dense = nn.Parameter(torch.tensor([1.0]))
    other = optim.Adam([dense], lr=0.1, betas=(0.5, 0.75), eps=0.0)
    for gradient in (2.0, 0.0):
        dense.grad = torch.tensor([gradient])
        other.step()
    # What lazy Adam leaves alone, Adam moves on: m = 0.5, v = 0.75.
    assert float(dense.detach()) == pytest.approx(
        0.9 - 0.1 * (0.5 / 0.75) / math.sqrt(0.75 / 0.4375)
    )


def test_sgd_by_hand():
    weight = nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer = optim.SGD([weight], lr=0.1, momentum=0.5, weight_decay=1.0, lazy=True)
    weight.grad = torch.tensor([1.0, 0.0])
    optimizer.step()
    # b = 1 + 1 = 2
    assert weight.tolist() == pytest.approx([0.8, 1.0])
    weight.grad = torch.tensor([0.0, 1.0])
    optimizer.step()
    assert weight.tolist() == pytest.approx([0.8, 0.8])
    assert optimizer.state[weight]["momentum_buffer"].tolist() == pytest.approx([2.0, 2.0])


@each_case
def test_it_is_the_dense_step_where_there_are_gradients(name, options):
    weight, optimizer = made(name, options, lazy=True)
    dense, other = made(name, options)
    gradient = torch.randn(37, generator=torch.Generator().manual_seed(9))
    for _ in range(3):
        for parameter, each in ((weight, optimizer), (dense, other)):
            parameter.grad = gradient.clone()
            each.step()
    assert torch.equal(weight, dense)


@each_case
def test_torchs_own_step_rests_in_the_same_places(name, options):
    weight, optimizer = made(name, options, lazy=True)
    twin, fallback = made(name, options, torch.float64, lazy=True)
    start = weight.detach().clone()
    for step in range(6):
        weight.grad, twin.grad = named_rows(step), named_rows(step).double()
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            fallback.step()
    torch.testing.assert_close(weight.double(), twin, rtol=1e-4, atol=1e-5)
    assert torch.equal(weight[32:], start[32:])
    assert not torch.equal(weight[:32], start[:32])


def test_it_is_torchs_sparse_adam():
    table = nn.Embedding(9, 4, sparse=True)
    weight = nn.Parameter(table.weight.detach().clone())
    sparse, lazy = torch.optim.SparseAdam(table.parameters(), lr=0.1), optim.Adam([weight], 0.1)
    lazy.param_groups[0]["lazy"] = True
    for step in range(5):
        tokens = torch.randint(9, (4,), generator=torch.Generator().manual_seed(step))
        aims = torch.arange(16.0).reshape(4, 4)
        for found, optimizer in ((table(tokens), sparse), (weight[tokens], lazy)):
            optimizer.zero_grad()
            (found * aims.sub(7.5)).sum().backward()
            optimizer.step()
    torch.testing.assert_close(table.weight, weight, rtol=1e-5, atol=1e-6)


def test_the_option_is_kept_and_belongs_to_groups():
    one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    groups = [{"params": [one], "lazy": False}, {"params": [two]}]
    optimizer = optim.Adam(groups, lr=0.1, weight_decay=1.0, lazy=True)
    one.grad, two.grad = torch.zeros(2), torch.zeros(2)
    optimizer.step()
    assert one.tolist() == pytest.approx([0.9, 0.9]) and two.tolist() == [1.0, 1.0]
    twin = optim.Adam([{"params": [one]}, {"params": [two]}], lr=0.1)
    twin.load_state_dict(optimizer.state_dict())
    assert [group["lazy"] for group in twin.param_groups] == [False, True]
    assert "lazy" not in optim.Adam([one]).param_groups[0]


def test_compiled_steps_refuse_it():
    optimizer = optim.Adam([nn.Parameter(torch.ones(2))], lazy=True)
    with pytest.raises(CannotCompile, match="Adam has lazy=True"):
        Trainer(optimizer, [])
