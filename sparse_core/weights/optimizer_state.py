"""What becomes of an optimizer's moments where weights are dropped or grown.

    zero         as if the weight had never been trained (the default): the values that the
                 optimizer itself begins with, which are not always zero; see
                 `sparse_core.weights.fresh`
    layer_mean   the second moment of grown weights is the mean over the layer's other active
                 weights; with Adam, zero moments late in training make a first step of about
                 (1 - beta1) / sqrt(1 - beta2) = 3.2 learning rates, which this avoids
    keep         moments stay as they are; while a weight is inactive its gradient is zero, so that
                 they decay
    freeze       moments stay as they are and do not decay while a weight is inactive: one that
                 grows again goes on with those it had when it was dropped (Adam with a mask, in the
                 code of "Network Sparsity Unlocks the Scaling Potential of Deep Reinforcement
                 Learning", Ma et al. 2025, by another group: github.com/nappaillav/SparsityRL)

The policy is a field of the configuration, `optimizer_state`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparse_core.in_force import KEPT_STATES
from sparse_core.weights.delta import Delta
from sparse_core.weights.fresh import initial_state
from sparse_core.weights.tensor import SparseTensor

SECOND_MOMENTS = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg"})


def carry_moments(optimizer: Optimizer, tensor: SparseTensor, delta: Delta, policy: str) -> None:
    """Apply a Delta to the state of a weight and of its bias.

    Args:
        optimizer: Any optimizer; each state tensor shaped like the weight is treated.
        tensor: The weight, its mask already updated.
        delta: What the update changed.
        policy: `zero`, `layer_mean`, `keep` or `freeze`.
    """
    states, kept = _state(optimizer, tensor.weight), policy in KEPT_STATES
    initial = initial_state(optimizer, tensor.weight) if states and not kept else {}
    for key, moments in states:
        if not kept:
            tensor.carry(moments, delta, initial.get(key, 0.0))
        if policy == "layer_mean" and key in SECOND_MOMENTS and delta.grown.numel():
            grown = tensor.marked(delta.grown)
            others = tensor.occupied() & ~grown
            if bool(others.any()):
                moments[grown] = moments[others].mean()
    neurons = torch.cat([delta.ablated, delta.revived])
    if tensor.bias is not None and neurons.numel():
        for key, moments in _state(optimizer, tensor.bias):
            moments[neurons] = _initial(optimizer, tensor.bias, key)


def clear_inactive(optimizer: Optimizer, tensor: SparseTensor) -> None:
    """Reset the state of inactive weights, when a trained dense network becomes sparse."""
    inactive = ~tensor.occupied()
    for key, moments in _state(optimizer, tensor.weight):
        moments[inactive] = _initial(optimizer, tensor.weight, key)


def clear_moments(optimizer: Optimizer, tensor: SparseTensor) -> None:
    """Reset the state of the weight and of its bias altogether, when a new task begins."""
    for parameter in (p for p in (tensor.weight, tensor.bias) if p is not None):
        for key, moments in _state(optimizer, parameter):
            moments.fill_(_initial(optimizer, parameter, key))


def restart_state(optimizer: Optimizer, parameter: Tensor, where: Tensor) -> None:
    """Reset the state of some entries of a parameter, and its step count.

    Args:
        optimizer: The optimizer; without state nothing happens.
        parameter: The parameter.
        where: bool in its shape.
    """
    for key, moments in _state(optimizer, parameter):
        moments[where] = _initial(optimizer, parameter, key)
    count = optimizer.state.get(parameter, {}).get("step")
    if torch.is_tensor(count) and count.numel() == 1:
        count.zero_()


def outside(optimizer: Optimizer, tensor: SparseTensor) -> list[tuple[Tensor, Tensor]]:
    """Return each state tensor of a weight with a copy of it, for `keep_outside` after a step."""
    return [(moments, moments.clone()) for _, moments in _state(optimizer, tensor.weight)]


def keep_outside(tensor: SparseTensor, before: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Give inactive weights the moments back that they had before an optimizer step.

    Args:
        tensor: The weight.
        before: What `outside` returned before the step.
    """
    inactive = ~tensor.occupied()
    for moments, old in before:
        moments[inactive] = old[inactive]


def _state(optimizer: Optimizer, parameter: Tensor) -> list[tuple[str, Tensor]]:
    state = optimizer.state.get(parameter, {})
    return [
        (key, value)
        for key, value in state.items()
        if torch.is_tensor(value) and value.shape == parameter.shape
    ]


def _initial(optimizer: Optimizer, parameter: Tensor, key: str) -> float:
    return initial_state(optimizer, parameter).get(key, 0.0)
