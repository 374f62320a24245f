"""How many weights networks have, counted without training or drawing anything."""

from __future__ import annotations

import dataclasses

from torch import nn

from sparse_core.budgets.distributions import budgets
from sparse_core.budgets.patterns import structure_for
from sparse_core.budgets.selection import select
from sparse_core.config import SparseConfig


def dense_count(module: nn.Module) -> int:
    """Count the weights of all layers; biases and normalisation layers do not count."""
    return sum(item.numel for item in select(module))


def active_count(module: nn.Module, config: SparseConfig) -> int:
    """Count the weights that would be active, those of dense layers included.

    Args:
        module: The dense network; it may be on the meta device.
        config: Any, or what `sparse_core.sized.sized` leaves of it.

    Raises:
        InputError: If the budget leaves a layer less than it needs.
    """
    static = dataclasses.replace(config, method="static")
    structure = structure_for(static.structure_in_force, static.group)
    return sum(budgets(select(module), static, structure).values())
