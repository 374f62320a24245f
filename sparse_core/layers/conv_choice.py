"""Which backend a convolution gets with `backend="auto"`: the condensed one, where that pays.

As for linear layers (`sparse_core.layers.choice`), costs that are shipped decide where one form is
three times faster, and costs measured on the machine at hand where they are closer, or threads are
several. Depthwise convolutions have no condensed form, and a strided one of a single pixel stays
as it is: there is too little to gain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import torch
from torch import nn

from sparse_core.kernels.conv_shape import tile_of_images
from sparse_core.layers import calibration
from sparse_core.layers.choice import CLEAR
from sparse_core.layers.condensed_conv import become_condensed_conv
from sparse_core.layers.conv import MaskedConv2d
from sparse_core.layers.conv_costs import ConvCosts, Filters, shipped
from sparse_core.layers.masked import become_masked

SIZE = 12
"""Height and width of the images that are timed."""

MOST_SAMPLES = 32
"""Samples of the largest batch that is timed; a larger one costs in proportion."""

SHAPES = ((16, 32, 3), (32, 32, 3), (64, 64, 3), (64, 64, 1))
"""Channels, filters and kernel of the convolutions that are timed."""

DENSITIES = (0.1, 0.4)

Case = tuple[int, int, int, float | None]
"""Channels, filters, kernel, and the density of a condensed one; None: masked."""


def conv_pays(layer: nn.Conv2d, active: int, group: int, batch: int) -> bool:
    """Whether a convolution trains faster in its condensed form.

    Args:
        layer: Any convolution that has one.
        active: Active weights, the most that there will be.
        group: Consecutive filters that share their columns.
        batch: Samples of a training batch.
    """
    if layer.kernel_size == (1, 1) and layer.stride != (1, 1):
        return False
    filters = Filters.of(layer, 1.0)
    filters = Filters.of(layer, active / (filters.count * filters.taps))
    by_shipped = shipped(batch, group, tile_of_images()).advantage(filters)
    clear = by_shipped >= CLEAR or by_shipped <= 1 / CLEAR
    if torch.get_num_threads() == 1 and clear:
        return by_shipped >= 1
    return costs(batch, group).advantage(filters) >= 1


def costs(batch: int, group: int) -> ConvCosts:
    """Return the costs of this machine for training batches of a size, measured now if need be.

    Args:
        batch: Samples.
        group: Consecutive filters that share their columns.
    """
    if not calibration.measures():
        return shipped(batch, group, tile_of_images())
    return _kept(min(batch, MOST_SAMPLES), group, torch.get_num_threads())


@cache
def _kept(batch: int, group: int, threads: int) -> ConvCosts:
    return calibration.kept(
        f"conv-{batch}-{group}-{threads}",
        ConvCosts,
        lambda: fitted(_times(batch, group), batch * SIZE * SIZE),
        lambda: shipped(batch, group, tile_of_images()),
    )


def fitted(times: Mapping[Case, float], positions: int) -> ConvCosts:
    """Return the costs that explain times best, none negative.

    Args:
        times: Seconds of a forward and backward pass.
        positions: Output positions and samples of each.
    """
    found: list[float] = []
    for condensed in (False, True):
        chosen = {case: t for case, t in times.items() if (case[3] is not None) == condensed}
        table = np.array([_counts(case) for case in chosen])
        seconds = np.array(list(chosen.values()))
        found += calibration.least_squares(table, 1e9 * seconds / positions)
    return ConvCosts(*found)


def _counts(case: Case) -> tuple[float, float]:
    channels, count, kernel, density = case
    weights = count * channels * kernel**2 * (1.0 if density is None else density)
    return weights, float(channels + count)


def _times(batch: int, group: int) -> dict[Case, float]:
    cases: list[Case] = [(*shape, None) for shape in SHAPES]
    cases += [(*shape, density) for shape in SHAPES for density in DENSITIES]
    with torch.inference_mode(False), torch.enable_grad():
        return calibration.fastest({case: _pass(case, batch, group) for case in cases})


def _pass(case: Case, batch: int, group: int) -> Callable[[], object]:
    """Return a forward and a backward pass, gradient of the input included."""
    channels, count, kernel, density = case
    random = np.random.default_rng(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.from_numpy(random.uniform(-0.1, 0.1, shape).astype(np.float32))

    layer = nn.Conv2d(channels, count, kernel, padding=kernel // 2, device="meta")
    layer.weight = nn.Parameter(numbers(count, channels, kernel, kernel))
    layer.bias = nn.Parameter(numbers(count))
    if density is None:
        become_masked(layer, MaskedConv2d)
    else:
        mask = calibration.random_mask(random, count, channels * kernel**2, density, group)
        become_condensed_conv(layer, torch.from_numpy(mask), group=group)
    x = numbers(batch, channels, SIZE, SIZE).requires_grad_()
    dy = numbers(batch, count, SIZE, SIZE)

    def call() -> None:
        layer.zero_grad()
        x.grad = None
        layer(x).backward(dy)

    return call
