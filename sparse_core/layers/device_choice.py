"""Whether `auto` condenses a layer on a GPU: where a layer was measured that says so.

`dst bench gpu` writes how many times as fast as dense a training step of a condensed layer is, for
some layers, to the file of `sparse_core.kernels.gpu.tuning`. One that won speaks for all layers
that are at least as large, as sparse and in batches as large, with groups as large: more of each
favours the condensed form. Where nothing was measured layers stay masked.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparse_core.kernels.gpu.tuning import crossovers

Measured = tuple[int, int, float, int, int, float]
"""Rows, columns, density, group, batch, and how many times as fast as dense."""


def condensed_pays_there(
    weight: Tensor, rows: int, cols: int, density: float, group: int, batch: int
) -> bool:
    """Whether a condensed layer trains at least as fast as a masked one on the weight's device.

    Args:
        weight: The dense weight.
        rows: Neurons.
        cols: Dense fan-in.
        density: Fraction of the weights that is active.
        group: Consecutive neurons that share their columns.
        batch: Samples of a training batch.
    """
    if not weight.is_cuda:
        return False
    known = crossovers(torch.cuda.get_device_name(weight.device))
    return pays(known, str(weight.dtype), rows, cols, density, group, batch)


def pays(
    known: Mapping[str, list[Measured]],
    dtype: str,
    rows: int,
    cols: int,
    density: float,
    group: int,
    batch: int,
) -> bool:
    """Whether a measured layer that won speaks for this one; `known` is by dtype."""
    return any(
        faster >= 1
        and least_rows <= rows
        and least_cols <= cols
        and density <= most_density
        and least_group <= group
        and least_batch <= batch
        for least_rows, least_cols, most_density, least_group, least_batch, faster in known.get(
            dtype, []
        )
    )
