"""Speed of condensed attention in training, modules under autograd: `dst bench attention`.

Measures, in one run and in turns, forward and backward passes of self-attention and of attention to
as many other tokens, and training steps with AdamW of a block of a Vision Transformer: torch's own
encoder layer, normalised first, with GELU and a feed-forward block four times as wide (Dosovitskiy
et al. 2021). A mask over the weights is what a simulation of sparsity costs. Products between
activations are dense in all contestants, and not counted as useful operations: these are two for
each active weight, token and product. Beside their rate stands its fraction of the core's multiply-
add peak.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sweeps.bench.command import Calls, Case, Setting, exit_code, run
from sweeps.bench.timing import Record, records

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int, int]
"""Features, heads, tokens of a sample, batch."""

SHAPES: tuple[Shape, ...] = ((192, 3, 64, 64), (384, 6, 64, 32))

SPARSITIES = (0.9, 0.95)
GROUPS = (1, 4)


def attention(setting: Setting) -> Iterator[list[Record]]:
    """Forward and backward passes of self-attention, gradient of the input included."""
    yield from _measured("attention", setting)


def cross(setting: Setting) -> Iterator[list[Record]]:
    """Forward and backward passes of attention to other tokens, gradients of both included."""
    yield from _measured("cross", setting)


def block(setting: Setting) -> Iterator[list[Record]]:
    """Training steps of a block with AdamW."""
    yield from _measured("block", setting)


def _measured(case: str, setting: Setting) -> Iterator[list[Record]]:
    block = case == "block"
    for shape in SHAPES[:1] if setting.quick else SHAPES:
        for sparsity in SPARSITIES[:1] if setting.quick else SPARSITIES:
            nets = {"dense": _net(shape, block), "masked": _sparse(shape, block, sparsity, 1)}
            for group in GROUPS:
                nets[f"condensed:{group}"] = _sparse(shape, block, sparsity, group, "condensed")
            calls: Calls = {name: _call(net, shape, case) for name, net in nets.items()}
            size, _, tokens, batch = shape
            once = 2.0 * 3 * batch * tokens
            work = {name: once * _weights(net, shape, block) for name, net in nets.items()}
            facts = (size, size), batch * tokens, sparsity, setting.threads
            yield records(case, *facts, setting.turns(calls), work, setting.peak)


def _net(shape: Shape, block: bool) -> nn.Module:
    import torch
    from torch import nn

    size, heads, _, _ = shape
    torch.manual_seed(0)
    if not block:
        return nn.MultiheadAttention(size, heads, batch_first=True)
    options = dict(activation="gelu", batch_first=True, norm_first=True)
    return nn.TransformerEncoderLayer(size, heads, 4 * size, 0.0, **options)  # type: ignore[arg-type]


def _sparse(
    shape: Shape, block: bool, sparsity: float, group: int, backend: str = "masked"
) -> nn.Module:
    from sparse_core import SparseConfig, sparsify

    net = _net(shape, block)
    config = SparseConfig(
        method="static", structure="constant_fan_in", distribution="uniform", dense=(),
        sparsity=sparsity, group=group, backend=backend,
    )  # fmt: skip
    sparsify(net, config, roles={"*": "hidden"})
    return net


def _weights(net: nn.Module, shape: Shape, block: bool) -> float:
    """Return the active weights of projections and feed-forward block."""
    from sparse_core.counts import network_sparsity

    return (12 if block else 4) * shape[0] ** 2 * (1 - network_sparsity(net))


def _call(net: nn.Module, shape: Shape, case: str) -> Callable[[], object]:
    import torch

    size, _, tokens, batch = shape
    block = case == "block"
    x, memory, dy = (torch.randn(batch, tokens, size) for _ in range(3))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-6) if block else None
    x.requires_grad_(not block)
    memory = memory.requires_grad_() if case == "cross" else x

    def call() -> object:
        x.grad = memory.grad = None
        net.zero_grad()
        out = net(x) if block else net(x, memory, memory, need_weights=False)[0]
        out.backward(dy)
        if optimizer is not None:
            optimizer.step()
        return out

    return call


CASES: dict[str, Case] = {"attention": attention, "cross": cross, "block": block}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    return run("dst bench attention", __doc__, CASES, arguments)


if __name__ == "__main__":
    sys.exit(exit_code("dst bench attention", main))
