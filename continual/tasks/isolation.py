"""Weights of finished tasks: which they are, and what later tasks may do with them.

    none      a task has no weight of an earlier one
    reuse     its mask may include them, wherever they lie; it reads them, it never writes them
    forward   when a task ends, its most important neurons in each hidden layer are reserved. A
              later task reads them as they are, by all the weights and the bias that its owner gave
              them, and has weights of its own in other neurons only (SpaceNet, Sokar et al. 2021)
    all       it reads all weights of all earlier tasks, always (PackNet, Mallya and Lazebnik 2018)

The importance of a neuron is the sum of the magnitudes of the task's own weights into it, that of a
group of neurons, which are reserved together, the mean of theirs.
Normalisation layers are each task's own, so behind one a reserved neuron is scaled anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from continual.tasks.task import TaskState
from sparse_core.budgets.patterns import ConstantFanIn
from sparse_core.layers.sharing import Lent
from sparse_core.weights.condensed import CondensedTensor
from sparse_core.weights.tensor import SparseTensor


def protect(tensors: Iterable[SparseTensor], finished: Sequence[TaskState], share: str) -> None:
    """Keep the weights of finished tasks as they are from here on, to the bit.

    Args:
        tensors: The weights that tasks share.
        finished: The finished tasks.
        share: The sharing policy.
    """
    for tensor in tensors:
        shape = torch.Size(tensor.shape)
        taken = torch.zeros(shape, dtype=torch.bool, device=tensor.weight.device)
        for task in finished:
            taken |= task.masks.get(tensor.name, shape)
        if isinstance(tensor, CondensedTensor):
            tensor.protect(taken, None if share == "none" else _frozen(tensor, finished))
        else:
            tensor.protect(taken)
        tensor.lend(
            lent(tensor, finished, share), reserved(tensor, finished), given(tensor, finished)
        )


def reserve(tensors: Iterable[SparseTensor], task: TaskState, fraction: float) -> None:
    """Reserve the most important neurons of the task in training, which is about to end.

    Args:
        tensors: The weights that tasks share.
        task: The task.
        fraction: Of each layer's neurons.
    """
    for tensor in tensors:
        group = tensor.structure.group if isinstance(tensor.structure, ConstantFanIn) else 1
        importance = (tensor.values().abs() * tensor.active()).sum(1)
        lanes = torch.stack([part.mean() for part in torch.split(importance, group)])
        count = min(max(1, round(fraction * len(lanes))), int((lanes > 0).sum()))
        chosen = torch.zeros(len(lanes), dtype=torch.bool, device=lanes.device)
        chosen[lanes.argsort(descending=True, stable=True)[:count]] = True
        task.neurons.put(tensor.name, chosen.repeat_interleave(group)[: tensor.rows])


def given(tensor: SparseTensor, tasks: Sequence[TaskState]) -> Tensor | None:
    """Return `(rows,)`, the biases of reserved neurons, zeros elsewhere; None: there are none."""
    owners = [task for task in tasks if tensor.name in task.neurons]
    if tensor.bias is None or not owners:
        return None
    biases = torch.zeros_like(tensor.bias, requires_grad=False)
    for owner in owners:
        neurons = owner.neurons.get(tensor.name, (tensor.rows,))
        biases[neurons] = owner.value(tensor.bias_name)[neurons]
    return biases


def reserved(tensor: SparseTensor, tasks: Sequence[TaskState]) -> Tensor | None:
    """Return `(rows,)` bool, the neurons that these tasks reserved; None: there are none."""
    found = None
    for task in tasks:
        if tensor.name in task.neurons:
            neurons = task.neurons.get(tensor.name, (tensor.rows,))
            found = neurons if found is None else found | neurons
    return found


def lent(tensor: SparseTensor, tasks: Sequence[TaskState], share: str) -> Tensor | None:
    """Return, bool in the weight's shape, what a task after these reads beside its mask.

    With `forward` these are the weights that made the reserved neurons. None: there are none.
    """
    found = None
    for task in tasks if share in ("forward", "all") else ():
        mask = task.masks.get(tensor.name, tensor.shape)
        if share == "forward":
            mask[~task.neurons.get(tensor.name, (tensor.rows,))] = False
        found = mask if found is None else found | mask
    return found


def readable(
    tensors: Iterable[SparseTensor], task: TaskState, earlier: Sequence[TaskState], share: str
) -> dict[str, Tensor | Lent]:
    """Return what an finished task reads beside its masks, by the weight's name.

    Args:
        tensors: The weights that tasks share.
        task: The task.
        earlier: The tasks that had finished when it began.
        share: The sharing policy.

    Returns:
        As `lent`; for a condensed layer joined with the task's own weights, which is done once.
    """
    found: dict[str, Tensor | Lent] = {}
    for tensor in tensors:
        if tensor.name in task.joined:
            found[tensor.name] = task.joined[tensor.name]
            continue
        mask = lent(tensor, earlier, share)
        if mask is None:
            continue
        if not isinstance(tensor, CondensedTensor):
            found[tensor.name] = mask
            continue
        weights, capacity = _frozen(tensor, earlier).numpy(), tensor.weight.numel()
        own = task.pattern(tensor)
        joined = Lent.beside(own, mask.flatten(1).numpy(), weights, capacity)
        found[tensor.name] = task.joined[tensor.name] = joined
    return found


def _frozen(tensor: CondensedTensor, finished: Sequence[TaskState]) -> Tensor:
    """Collect what finished tasks have learnt in a condensed layer, `(rows, cols)`."""
    weights = tensor.like_dense()
    for task in finished:
        mask = task.masks.get(tensor.name, weights.shape)
        weights[mask] = task.weight(tensor)[mask]
    return weights
