"""What becomes of an optimizer's moments where weights are dropped or grown.

zero         as if the weight had never been trained (the default)
layer_mean   the second moment of grown weights is the mean over the layer's other active weights;
with Adam, zero moments late in training make a first step of about
(1 - beta1) / sqrt(1 - beta2) = 3.2 learning rates, which this avoids
keep         moments stay as they are
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparse_core.topology import Delta, SparseTensor

SECOND_MOMENTS = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg"})

ELEMENTWISE = frozenset(
    "SGD Adam AdamW RMSprop RMSpropTFLike Adagrad Adadelta Adamax NAdam RAdam ASGD Rprop".split()
)
"""Optimizers that leave a weight alone whose gradient and state are zero."""

INITIAL_VALUES: dict[tuple[str, str], float] = {("RMSpropTFLike", "square_avg"): 1.0}
"""Optimizer class and state name -> the value it starts from, where that is not zero."""


def is_elementwise(optimizer: Optimizer) -> bool:
    """Whether an optimizer is known to leave inactive weights at zero; LBFGS, for one, is not."""
    return type(optimizer).__name__ in ELEMENTWISE


def settle(optimizer: Optimizer, tensor: SparseTensor, delta: Delta, policy: str) -> None:
    """Apply a Delta to the state of a weight and of its bias.

    Args:
        optimizer: Any optimizer; each state tensor shaped like the weight is treated.
        tensor: The weight, its mask already updated.
        delta: What the update changed.
        policy: `zero`, `layer_mean` or `keep`.
    """
    for key, moments in _state(optimizer, tensor.weight):
        if policy != "keep":
            tensor.carry(moments, delta, _initial(optimizer, key))
        if policy == "layer_mean" and key in SECOND_MOMENTS and delta.grown.numel():
            grown = tensor.marked(delta.grown)
            others = tensor.occupied() & ~grown
            if bool(others.any()):
                moments[grown] = moments[others].mean()
    neurons = torch.cat([delta.ablated, delta.revived])
    if tensor.bias is not None and neurons.numel():
        for key, moments in _state(optimizer, tensor.bias):
            moments[neurons] = _initial(optimizer, key)


def clear_inactive(optimizer: Optimizer, tensor: SparseTensor) -> None:
    """Reset the state of inactive weights, when a network that was trained dense gets sparse."""
    inactive = ~tensor.occupied()
    for key, moments in _state(optimizer, tensor.weight):
        moments[inactive] = _initial(optimizer, key)


def clear_moments(optimizer: Optimizer, tensor: SparseTensor) -> None:
    """Reset the state of the weight and of its bias altogether, when a new task begins."""
    for parameter in (p for p in (tensor.weight, tensor.bias) if p is not None):
        for key, moments in _state(optimizer, parameter):
            moments.fill_(_initial(optimizer, key))


def _state(optimizer: Optimizer, parameter: Tensor) -> list[tuple[str, Tensor]]:
    state = optimizer.state.get(parameter, {})
    return [
        (key, value)
        for key, value in state.items()
        if torch.is_tensor(value) and value.shape == parameter.shape and value.dim() > 0
    ]


def _initial(optimizer: Optimizer, key: str) -> float:
    return INITIAL_VALUES.get((type(optimizer).__name__, key), 0.0)
