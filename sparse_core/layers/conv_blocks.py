"""Residual blocks whose convolutions can be computed as one chain.

A block of one's own is told of by a function that names its parts:

    @chains(MyBlock)
    def parts(block):
        return Parts([(block.conv1, block.norm1), (block.conv2, block.norm2)], block.shortcut)

Its forward pass has to be: convolution, normalisation and ReLU for all but the last pair;
convolution, normalisation, sum with the shortcut and ReLU for that. With `before=True`
normalisation and ReLU come before each convolution (He et al. 2016, Identity Mappings), and the sum
ends it. A class derived from it with a forward pass of its own is another block.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import nn

from sparse_core.layers.kinds import computes_as
from sparse_core.layers.passing import passes_through, watched
from sparse_core.networks.residual import Block

Describe = Callable[[Any], "Parts"]
B = TypeVar("B", bound=Describe)


class Parts(NamedTuple):
    """The parts of a residual block.

    Attributes:
        pairs: Convolutions, each with the `nn.BatchNorm2d` behind it, or None.
        shortcut: What goes round them; None or `nn.Identity`: the input itself.
        relu: Whether there is a ReLU behind each pair, and behind the sum.
        before: Whether normalisation and ReLU come before each convolution. Each has both then. A
            shortcut that is a layer is applied to what the first of them give.
    """

    pairs: Sequence[tuple[nn.Module, nn.Module | None]]
    shortcut: nn.Module | None
    relu: bool = True
    before: bool = False


_KNOWN: dict[type[nn.Module], Describe] = {}


def chains(kind: type[nn.Module]) -> Callable[[B], B]:
    """Make known how blocks of a class compute; for a function from a block to its `Parts`."""

    def keep(describe: B) -> B:
        _KNOWN[kind] = describe
        return describe

    return keep


def parts_of(block: nn.Module) -> Parts | None:
    """Return the parts of a residual block; None: it is none, or somebody looks into it."""
    _know_torchvision()
    kind = computes_as(block, _KNOWN)
    if kind is None or any(watched(module) for module in block.modules()):
        return None
    parts = _KNOWN[kind](block)
    if parts.shortcut is not None and passes_through(parts.shortcut):
        return parts._replace(shortcut=None)
    return parts


@chains(Block)
def _own(block: Block) -> Parts:
    first, second = (block.first, block.first_norm), (block.second, block.second_norm)
    return Parts([first, second], block.shortcut)


def _know_torchvision() -> None:
    """Make known the blocks of torchvision's residual networks, once it has been imported."""
    found: Any = sys.modules.get("torchvision.models.resnet")
    if found is not None and hasattr(found, "Bottleneck") and found.Bottleneck not in _KNOWN:
        chains(found.BasicBlock)(lambda block: _of_torchvision(block, 2))
        chains(found.Bottleneck)(lambda block: _of_torchvision(block, 3))


def _of_torchvision(block: Any, depth: int) -> Parts:
    pairs = [(getattr(block, f"conv{i}"), getattr(block, f"bn{i}")) for i in range(1, depth + 1)]
    if type(block.relu) is not nn.ReLU:
        return Parts([], block.downsample)
    return Parts(pairs, block.downsample)
