"""Masks as bits: a stored mask costs one bit a weight."""

from __future__ import annotations

import torch
from torch import Tensor


def packed_size(count: int) -> int:
    """Return the bytes that a mask of `count` weights needs."""
    return -(-count // 8)


def pack(mask: Tensor) -> Tensor:
    """Pack a bool mask of any shape into `(ceil(numel / 8),) uint8`, the first weight in bit 0."""
    flat = mask.reshape(-1)
    padded = torch.zeros(8 * packed_size(flat.numel()), dtype=torch.uint8, device=flat.device)
    padded[: flat.numel()] = flat
    return (padded.view(-1, 8) << _places(flat.device)).sum(1, dtype=torch.uint8)


def unpack(packed: Tensor, shape: torch.Size) -> Tensor:
    """Return the bool mask of this shape that `pack` packed."""
    bits = (packed.unsqueeze(1) >> _places(packed.device)) & 1
    return bits.view(-1)[: shape.numel()].bool().view(shape)


def _places(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
