"""Which condensed layers are computed together: those of sequences and of known blocks."""

from __future__ import annotations

from torch import nn

from sparse_core.layers.chain import CondensedSequential
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.layers.condensed_conv import CondensedConv2d
from sparse_core.layers.conv_blocks import parts_of
from sparse_core.layers.feed_forward import chain_feed_forward, feed_forward, has_feed_forward
from sparse_core.layers.fused import forbid_fused_encoders
from sparse_core.layers.kinds import become, computes_as
from sparse_core.layers.links import ACTIVATIONS
from sparse_core.layers.passing import passes_through, watched


def chain(root: nn.Module) -> None:
    """Let sequences and Transformer layers run their condensed layers as chains, in place."""
    forbid_fused_encoders(root)
    for module in root.modules():
        if computes_as(module, [nn.Sequential]) is not None:
            if any(_can_be_chained(child) for child in module.children()):
                become(module, CondensedSequential)
        elif has_feed_forward(module) and _has_condensed(module):
            chain_feed_forward(module)


def _can_be_chained(child: nn.Module) -> bool:
    """Whether a module of a sequence is a condensed layer, or a block of condensed convolutions."""
    if isinstance(child, (CondensedLinear, CondensedConv2d)):
        return True
    parts = parts_of(child)
    pairs = [] if parts is None else parts.pairs
    return bool(pairs) and all(isinstance(layer, CondensedConv2d) for layer, _ in pairs)


def _has_condensed(module: nn.Module) -> bool:
    return any(isinstance(child, CondensedLinear) for child in module.children())


def neighbours(root: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """List the linear layers that would follow each other in one chain, were they condensed."""
    pairs: list[tuple[nn.Module, nn.Module]] = []
    for module in root.modules():
        if isinstance(module, nn.Sequential):
            pairs += _in_sequence(module)
        elif has_feed_forward(module):
            first, activation, second = feed_forward(module)
            if activation is not None and not watched(first) and not watched(second):
                pairs.append((first, second))
    return pairs


def _in_sequence(sequence: nn.Sequential) -> list[tuple[nn.Module, nn.Module]]:
    pairs: list[tuple[nn.Module, nn.Module]] = []
    before: nn.Module | None = None
    for module in sequence:
        if isinstance(module, nn.Linear) and not watched(module):
            if before is not None:
                pairs.append((before, module))
            before = module
        elif not passes_through(module) and (type(module) not in ACTIVATIONS or watched(module)):
            before = None
    return pairs
