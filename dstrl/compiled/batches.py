"""Batches of transitions, brought from rows into the layout of the kernels."""

# mypy: allow-untyped-defs, no-check-untyped-defs
# Kernels have the types of their Numba signatures.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_core.kernels.jit import kernel, once
from sparse_core.step.shape import Array


@once
def lay_kernel(tile: int) -> Any:
    """Return the kernel that brings rows into tiles.

    Args:
        tile: Samples of a tile.

    Returns:
        A function of rows `(batch, features)`, of tiles `(tiles, more features, tile)`, and of the
        tile and the feature there where the first sample and the first feature go.
    """

    @kernel("void(float32[:, ::1], float32[:, :, ::1], int64, int64)")
    def lay(rows, tiles, first_tile, first_feature):
        batch, features = rows.shape
        for t in range((batch + tile - 1) // tile):
            start = t * tile
            count = min(tile, batch - start)
            for j in range(features):
                for s in range(count):
                    tiles[first_tile + t, first_feature + j, s] = rows[start + s, j]

    return lay


def rows_of(tensor: Any) -> Array:
    """Return a batch of torch as `(batch, features)` float32."""
    array: NDArray[Any] = tensor.numpy()
    rows = array.reshape(len(array), -1)
    return np.ascontiguousarray(rows, np.float32)


def column_of(tensor: Any) -> Array:
    """Return a batch of single numbers as `(batch,)` float32."""
    return rows_of(tensor).reshape(-1)
