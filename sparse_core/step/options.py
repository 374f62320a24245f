"""The options of torch's optimizers as the numbers that kernels take."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from sparse_core.kernels import optimizers as kernels
from sparse_core.kernels.jit import kernel, once
from sparse_core.kernels.optimizer_steps import OWN, STEP, Rule
from sparse_core.optim import torch_class
from sparse_core.step.shape import Array

Numbers = Callable[[Mapping[str, Any], float, float], Array]

NAMES: dict[type[Optimizer], str] = {
    torch.optim.Adam: "adam",
    torch.optim.AdamW: "adam",
    torch.optim.SGD: "sgd",
    torch.optim.RMSprop: "rmsprop",
}
"""The optimizers whose step is known, by exact class; those of `sparse_core.optim` are alike."""

OPTIONS = (
    "lr", "betas", "eps", "weight_decay", "decoupled_weight_decay", "maximize", "momentum",
    "dampening", "alpha",
)  # fmt: skip
"""Options that may change from step to step."""


def rule_of(optimizer: Optimizer, *, polyak: bool) -> tuple[Rule, Numbers]:
    """Return the kernel's rule of an optimizer, and what makes its numbers of its options."""
    group, name = optimizer.param_groups[0], NAMES[torch_class(optimizer)]
    if name == "adam":
        rule = Rule(name, amsgrad=group["amsgrad"], polyak=polyak)
        return rule, partial(_adam_numbers, torch_class(optimizer) is torch.optim.AdamW)
    momentum = bool(group["momentum"])
    if name == "sgd":
        nesterov = group["nesterov"]
        rule = Rule(name, momentum=momentum, nesterov=nesterov, polyak=polyak)
        return rule, _sgd_numbers
    rule = Rule(name, momentum=momentum, centered=group["centered"], polyak=polyak)
    return rule, _rmsprop_numbers


def _adam_numbers(decoupled: bool, group: Mapping[str, Any], count: float, tau: float) -> Array:
    return kernels.adam_numbers(
        count,
        float(group["lr"]),
        group["betas"],
        group["eps"],
        group["weight_decay"],
        decoupled=bool(group.get("decoupled_weight_decay", decoupled)),  # torch 2.6 has none
        maximize=group["maximize"],
        tau=tau,
    )


def _sgd_numbers(group: Mapping[str, Any], count: float, tau: float) -> Array:
    return kernels.sgd_numbers(
        False,
        float(group["lr"]),
        group["momentum"],
        group["dampening"],
        group["weight_decay"],
        maximize=group["maximize"],
        tau=tau,
    )


def _rmsprop_numbers(group: Mapping[str, Any], count: float, tau: float) -> Array:
    return kernels.rmsprop_numbers(
        float(group["lr"]),
        group["alpha"],
        group["eps"],
        group["weight_decay"],
        group["momentum"],
        maximize=group["maximize"],
        tau=tau,
    )


@once
def adam_kernel() -> Any:
    """Return the kernel that corrects Adam's rows of numbers for the bias of young moments.

    It writes what `sparse_core.kernels.optimizers.adam_numbers` would.

    Returns:
        A function of the steps of each tensor, (tensors,) float64, of the learning rate and the two
        decay rates, (3,) float64, and of the rows, (tensors, NUMBERS) float32.
    """
    step, correction = STEP, OWN + 4

    @kernel("void(float64[::1], float64[::1], float32[:, ::1])")
    def correct(counts, options, numbers):
        for i in range(counts.size):
            if i and counts[i] == counts[i - 1]:
                numbers[i, step] = numbers[i - 1, step]
                numbers[i, correction] = numbers[i - 1, correction]
            else:
                size = -options[0] / (1.0 - options[1] ** counts[i])
                numbers[i, step] = np.float32(size)
                numbers[i, correction] = np.float32(math.sqrt(1.0 - options[2] ** counts[i]))

    return correct
