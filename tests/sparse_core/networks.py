"""Small networks and a training loop that the tests share."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from sparse_core import Engine, SparseConfig, sparsify
from sparse_core.weights.tensor import SparseTensor


def mlp(*sizes: int, bias: bool = True) -> nn.Sequential:
    """A ReLU network without a final activation."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers += [nn.ReLU()] if i else []
        layers.append(nn.Linear(n_in, n_out, bias=bias))
    return nn.Sequential(*layers)


def built(
    config: dict[str, Any],
    sizes: tuple[int, ...] = (12, 16, 16, 4),
    lr: float = 1e-2,
    seed: int = 0,
) -> tuple[nn.Sequential, torch.optim.Optimizer, Engine]:
    """A sparse MLP with Adam."""
    torch.manual_seed(seed)
    net = mlp(*sizes)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    engine = sparsify(net, SparseConfig(**config), optimizer)
    return net, optimizer, engine


def batch(step: int, n_in: int, size: int = 16) -> tuple[Tensor, Tensor]:
    """The data of one step: a function of the step alone."""
    generator = torch.Generator().manual_seed(1000 + step)
    x = torch.randn(size, n_in, generator=generator)
    return x, (x[:, :3] * torch.tensor([1.0, -2.0, 0.5])).sum(1)


def train(
    net: nn.Module, optimizer: torch.optim.Optimizer, steps: range, n_in: int = 12
) -> list[float]:
    """Train on a regression of the first output; returns the losses."""
    losses = []
    dtype = next(net.parameters()).dtype
    for step in steps:
        x, y = (data.to(dtype) for data in batch(step, n_in))
        loss = nn.functional.mse_loss(net(x)[:, 0], y) + 0.01 * net(x).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def steps(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    number: int,
    shape: tuple[int, ...] = (6, 12),
    start: int = 0,
) -> None:
    """Train towards an output of 1/2, on inputs of any shape."""
    for step in range(start, start + number):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (net(x) - 0.5).pow(2).mean().backward()
        optimizer.step()


def moments(optimizer: torch.optim.Optimizer, tensor: SparseTensor) -> list[Tensor]:
    """What an optimizer keeps for each element of a weight."""
    state = optimizer.state[tensor.weight].values()
    return [v for v in state if torch.is_tensor(v) and v.shape == tensor.weight.shape]
