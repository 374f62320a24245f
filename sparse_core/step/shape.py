"""The samples of a training step, laid out in tiles, and memory for them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sparse_core.kernels.arguments import tile_size

Array = NDArray[np.float32]

_ALIGNMENT = 64  # bytes: a cache line and the widest vector


@dataclass(frozen=True)
class Shape:
    """How many samples a chain takes, and of how many of them it gives gradients.

    Where the batch does not fill its last tile, the rest are samples like any other as far as a
    chain knows: what they give is meaningless but finite, and signals are to be zero there.

    Attributes:
        batch: Samples of a batch.
        tile: Samples of a tile.
        tiles: Tiles that the forward pass computes.
        trained: Tiles, the first ones, that the backward pass computes.
        threads: Threads of the kernels.
    """

    batch: int
    tile: int
    tiles: int
    trained: int
    threads: int

    @classmethod
    def of(cls, batch: int, batches: int = 1) -> Shape:
        """Return the shape for a batch, or for several of which the first is trained on."""
        tile = tile_size(batch)
        tiles = -(-batch // tile)
        return cls(batch, tile, tiles * batches, tiles, torch.get_num_threads())

    def forward(self, features: int) -> Array:
        """Return zeros for a signal of the forward pass, (tiles, features, tile)."""
        return zeros(self.tiles, features, self.tile)

    def backward(self, features: int) -> Array:
        """Return zeros for a signal of the backward pass, (trained, features, tile)."""
        return zeros(self.trained, features, self.tile)


def zeros(*shape: int) -> Array:
    """Return float32 zeros that begin at a cache line."""
    size = math.prod(shape)
    memory: Array = np.zeros(size + _ALIGNMENT // 4, np.float32)
    start = -memory.ctypes.data % _ALIGNMENT // 4
    return memory[start : start + size].reshape(shape)
