"""A vision transformer for small images, of linear layers that can all be sparse.

As in Dosovitskiy et al. 2021, with normalisation before attention and before the two linear layers
of a block; the tokens of the last block are averaged instead of read from a class token (Beyer et
al. 2022). Queries, keys and values come from one linear layer, as in torch.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised.vision.catalogue import HEAD

HIDDEN = 4
"""Neurons between the two linear layers of a block, in sizes of a token."""


class Attention(nn.Module):
    """Self-attention of all tokens of an image.

    Args:
        size: Of a token.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.heads = max(1, size // HEAD)
        self.qkv = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, tokens, size)` to the same shape."""
        batch, tokens, size = x.shape
        parts = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts)
        joined: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, size))
        return joined


class TransformerBlock(nn.Module):
    """Attention, then two linear layers with GELU, each beside a shortcut.

    Args:
        size: Of a token.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(size)
        self.attention = Attention(size)
        self.norm = nn.LayerNorm(size)
        self.feed_forward = nn.Sequential(
            nn.Linear(size, HIDDEN * size), nn.GELU(), nn.Linear(HIDDEN * size, size)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, tokens, size)` to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        inner: Tensor = self.feed_forward(self.norm(x))
        return x + inner


class Patches(nn.Module):
    """Tokens of an image: squares of pixels, each mapped to a vector, and its learnt place added.

    Args:
        channels: Of the images.
        image: Their height and width, a multiple of `patch`.
        patch: Height and width of a square.
        size: Of a token.
    """

    def __init__(self, channels: int, image: int, patch: int, size: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, size, patch, patch)
        self.places = nn.Parameter(0.02 * torch.randn(1, (image // patch) ** 2, size))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, channels, height, width)` to `(batch, tokens, size)`."""
        tokens: Tensor = self.project(x).flatten(2).transpose(1, 2)
        return tokens + self.places


class Mean(nn.Module):
    """The mean of an image's tokens."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, tokens, size)` to `(batch, size)`."""
        return x.mean(1)


def vision_transformer(
    channels: int, image: int, patch: int, size: int, depth: int, classes: int
) -> nn.Sequential:
    """Return a network from `(batch, channels, image, image)` to `(batch, classes)`.

    Args:
        channels: Of the images.
        image: Their height and width, a multiple of `patch`.
        patch: Height and width of the squares that become tokens.
        size: Of a token.
        depth: Blocks.
        classes: Outputs.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["patches"] = Patches(channels, image, patch, size)
    for block in range(depth):
        layers[f"block{block + 1}"] = TransformerBlock(size)
    layers["norm"] = nn.LayerNorm(size)
    layers["mean"] = Mean()
    layers["head"] = nn.Linear(size, classes)
    return nn.Sequential(layers)
