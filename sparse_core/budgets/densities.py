"""Distributions: the density of each layer relative to the others, before they share a budget.

A distribution is a function of one selected weight (its `shape`, `name`, `role` and `layer`) that
returns a positive number. Only ratios between layers count: all numbers are scaled by one factor,
until the layers together have the budget.

    uniform     1
    er          (n_out + n_in) / (n_out n_in)          (SET, Mocanu et al. 2018)
    erk         sum(shape) / prod(shape)               (RigL, Evci et al. 2020, section 3.1)
"""

from __future__ import annotations

import math

from sparse_core.budgets.selection import Selected


def erk(weight: Selected) -> float:
    """Erdos-Renyi-Kernel: few weights for large layers, kernels count (RigL, Evci et al. 2020)."""
    return sum(weight.shape) / math.prod(weight.shape)


def er(weight: Selected) -> float:
    """Erdos-Renyi: few weights for layers of many inputs and outputs (SET, Mocanu et al. 2018)."""
    return sum(weight.shape[:2]) / math.prod(weight.shape[:2])


def uniform(weight: Selected) -> float:
    """Every layer has the same density."""
    return 1.0
