"""Weights of ended tasks: which they are, and what a task that may read them finds there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from continual.tasks import Task
from sparse_core.condensed import CondensedTensor
from sparse_core.topology import SparseTensor


def protect(tensors: Iterable[SparseTensor], ended: Sequence[Task]) -> None:
    """Keep the weights of ended tasks as they are from here on, to the bit.

    Args:
        tensors: The weights that tasks share.
        ended: The ended tasks.
    """
    for tensor in tensors:
        shape = torch.Size(tensor.shape)
        taken = torch.zeros(shape, dtype=torch.bool, device=tensor.weight.device)
        for task in ended:
            taken |= task.mask(tensor.name, shape)
        if isinstance(tensor, CondensedTensor):
            tensor.protect(taken, _frozen(tensor, ended) if tensor.may_reuse else None)
        else:
            tensor.protect(taken)


def _frozen(tensor: CondensedTensor, ended: Sequence[Task]) -> Tensor:
    """Collect what ended tasks have learnt in a condensed layer, `(rows, cols)`."""
    weights = tensor.like_dense()
    for task in ended:
        mask = task.mask(tensor.name, weights.shape)
        weights[mask] = task.weight(tensor)[mask]
    return weights
