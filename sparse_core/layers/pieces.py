"""A large batch goes through a chain in pieces, so that what passes between layers stays in caches.

A Transformer's feed-forward block has tens of thousands of tokens a batch: each signal is tens of
megabytes, and every layer would fetch it from memory again. Layers whose weights are few read these
once more for each piece, which costs less.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

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
    if way.tiles < 8 or torch.get_num_threads() > 1:
        return way.batch
    widest = max(max(link.pattern.in_features, link.pattern.out_features) for link in links)
    tiles = max(1, SIGNAL // (4 * widest * way.tile))
    weights = sum(6 * link.pattern.size for link in links)
    if way.tiles < 2 * tiles or weights > WEIGHTS:
        return way.batch
    return tiles * way.tile
