"""Candidate growth: the gradient where it may be large, and in a few places at random.

The gradient of a weight from feature j to output i is sum_b dL/dy_bi x_bj. In a one-vs-all layer on
sparse inputs it is large only where a positive of label i has feature j, and such pairs can be
listed. Of each row are looked at

    the features of up to 8 samples that ask for more of it, dL/dy_bi < 0, most first
    8 columns at random

and the highest |dL/dw| among them are grown. It finds what the whole gradient finds, at the cost of
the labels' positives; published layers of many labels grow at random (Ullah et al., "Navigating
Extremes", 2024).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparse_core.kernels.candidates import candidates as named
from sparse_core.layers.compact import CompactInput
from sparse_core.rules import growth_rule
from sparse_core.updaters.places import View, spread
from sparse_core.updaters.scene import Scene


def likely(view: View) -> NDArray[np.int64]:
    """Name the cells of some lanes that may have a large gradient."""
    signals = view.signals()
    if "features" not in view.kept:
        seed = int(torch.randint(1 << 62, (), generator=view.generator("candidates")))
        view.kept["features"] = (*_features([x for x, _, _ in signals]), seed)
    begins, features, seed = view.kept["features"]
    asks = torch.cat([dy.reshape(-1, dy.shape[-1])[:, view.rows] for _, dy, _ in signals])
    return named(
        asks.detach().float().cpu().numpy(),
        begins,
        features,
        view.width,
        view.group,
        view.lanes.start,
        seed,
    )


def _features(
    inputs: list[Tensor | CompactInput],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the features of each sample that are not zero: where they begin, and which."""
    counts, found = [np.zeros(1, np.int64)], [np.empty(0, np.int64)]
    for x in inputs:
        numbers = x.numbers if isinstance(x, CompactInput) else x.reshape(-1, x.shape[-1])
        rows, columns = (index.cpu() for index in numbers.nonzero(as_tuple=True))
        if isinstance(x, CompactInput):
            columns = x.columns[columns]
        counts.append(torch.bincount(rows, minlength=len(numbers)).numpy())
        found.append(columns.numpy())
    return np.cumsum(np.concatenate(counts)), np.concatenate(found)


@growth_rule(needs="signals", by_rows=True, places=likely)
def candidates(scene: Scene) -> Tensor:
    """|dL/dw| at features of samples that ask for more, and in a few random places."""
    return spread(scene, likely(View.of(scene)))
