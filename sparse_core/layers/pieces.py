"""A large batch goes through a chain in pieces, so that what passes between layers stays in caches.

A Transformer's feed-forward block has tens of thousands of tokens a batch: each signal is tens of
megabytes, and every layer would fetch it from memory again. Layers whose weights are few read these
once more for each piece, which costs less.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparse_core.kernels.format import Pattern
from sparse_core.layers.links import Link
from sparse_core.layers.ways import Blocked

SIGNAL = 2 << 20
"""Bytes of the widest signal of a piece, about; several of them fit into a third-level cache."""

WEIGHTS = 1 << 20
"""Bytes of weights and columns above which a batch stays whole."""


def samples_of_piece(links: Sequence[Link], way: Blocked) -> int:
    """Return how many samples go through a chain together, a multiple of the tile or all.

    Args:
        links: The layers.
        way: Through all of them.
    """
    tiles = _tiles_of_piece([link.pattern for link in links], way.tiles, way.tile)
    return way.batch if tiles == way.tiles else tiles * way.tile


def in_pieces(patterns: Sequence[Pattern], tiles: int, tile: int) -> bool:
    """Whether a batch of so many tiles goes through layers of these patterns in pieces."""
    return _tiles_of_piece(patterns, tiles, tile) < tiles


def _tiles_of_piece(patterns: Sequence[Pattern], tiles: int, tile: int) -> int:
    if tiles < 8 or torch.get_num_threads() > 1:
        return tiles
    widest = max(max(pattern.in_features, pattern.out_features) for pattern in patterns)
    piece = max(1, SIGNAL // (4 * widest * tile))
    weights = sum(6 * pattern.size for pattern in patterns)
    return tiles if tiles < 2 * piece or weights > WEIGHTS else piece
