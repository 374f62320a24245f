"""Masks as bits: a stored mask costs one bit a weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


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


class Masks(nn.Module):
    """Masks by name, as bits; they are saved with the module that holds this one."""

    def put(self, name: str, mask: Tensor) -> None:
        """Store a bool mask of any shape."""
        self.register_buffer(key_of(name), pack(mask))

    def get(self, name: str, shape: Sequence[int]) -> Tensor:
        """Return a mask, bool, in its shape."""
        return unpack(self.get_buffer(key_of(name)), torch.Size(shape))

    def make_room(self, name: str, count: int) -> None:
        """Make room for a mask of `count` weights, which a checkpoint will fill."""
        self.register_buffer(key_of(name), torch.zeros(packed_size(count), dtype=torch.uint8))

    def clear(self) -> None:
        """Forget all masks."""
        self._buffers.clear()

    @property
    def empty(self) -> bool:
        """Whether there is no mask."""
        return not self._buffers

    def __contains__(self, name: str) -> bool:
        return key_of(name) in self._buffers


def key_of(name: str) -> str:
    """Return what a tensor of this name is called inside a module: names there hold no dots."""
    return name.replace(".", "/")


def _places(device: torch.device) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=device)
