"""A warning for input layers whose structure lets too little of the input through."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from sparse_core.budgets.distributions import least_fan_in
from sparse_core.budgets.patterns import ConstantFanIn
from sparse_core.budgets.selection import Selected
from sparse_core.budgets.structure import Structure
from sparse_core.config import SparseConfig

ENOUGH = 0.5
"""Neurons that read this part of the least fan-in go without a warning."""


def warn_starved(
    sparse: Sequence[Selected],
    counts: Mapping[str, int],
    structure: Structure,
    config: SparseConfig,
    stacklevel: int = 1,
) -> None:
    """Warn of input layers with constant fan-in that leave inputs unread, whatever their mask is.

    Said are those whose neurons read less than half of `min_fan_in`, and those of which some
    inputs are read by no neuron.

    Args:
        sparse: The weights that become sparse.
        counts: Their active weights, by name.
        structure: Their structure.
        config: What was asked for.
        stacklevel: As `warnings.warn` takes it.
    """
    if not isinstance(structure, ConstantFanIn):
        return
    said = []
    for item in sparse:
        wanted = least_fan_in(item, structure, config)
        if not wanted:
            continue
        fan_ins = structure.capacity(counts[item.name], item.rows, item.cols)
        unread = max(0, item.cols - int(fan_ins.sum()))
        few = int(fan_ins.max()) < ENOUGH * wanted
        if few or unread:
            said.append(
                f"{item.name!r}: neurons read {int(fan_ins.max())} of {item.cols} inputs"
                + (f", {unread} inputs are read by none" if unread else "")
            )
    if said:
        warnings.warn(
            f"Constant fan-in at sparsity={config.sparsity} starves input layers: "
            f"{'; '.join(said)}. Keep them dense (dense='input'), or use a lower sparsity or fewer "
            "neurons; min_fan_in=1 says that it is meant",
            stacklevel=stacklevel + 1,
        )
