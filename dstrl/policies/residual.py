"""Residual networks for policies: SimBa's and BRO's, from plain modules.

    simba   Dense, n x [+ LayerNorm, Dense 4h, ReLU, Dense h], LayerNorm           (Lee et al. 2025)
    bro     Dense, LayerNorm, ReLU, n x [+ Dense h, LayerNorm, ReLU, Dense h, LayerNorm]
                                                                          (Nauman et al. 2024)

Each is followed by a linear head. First weights are SimBa's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import nn

from sparse_core.checks import InputError, one_of
from sparse_core.layers.residual import Residual

Activation = type[nn.Module]

EXPANSION = 4
"""SimBa's inner width, in widths of the trunk."""


def _simba(inputs: int, width: int, blocks: int, activation: Activation) -> list[nn.Module]:
    inner = EXPANSION * width
    return [
        nn.Linear(inputs, width),
        *(
            Residual(
                nn.LayerNorm(width), nn.Linear(width, inner), activation(), nn.Linear(inner, width)
            )
            for _ in range(blocks)
        ),
        nn.LayerNorm(width),
    ]


def _bro(inputs: int, width: int, blocks: int, activation: Activation) -> list[nn.Module]:
    return [
        nn.Linear(inputs, width),
        nn.LayerNorm(width),
        activation(),
        *(
            Residual(
                nn.Linear(width, width),
                nn.LayerNorm(width),
                activation(),
                nn.Linear(width, width),
                nn.LayerNorm(width),
            )
            for _ in range(blocks)
        ),
    ]


BLOCKS: dict[str, Callable[[int, int, int, Activation], list[nn.Module]]] = {
    "simba": _simba,
    "bro": _bro,
}
"""Kinds of residual networks by name."""


def trunk(
    inputs: int, widths: Sequence[int], activation: Activation, kind: str = "simba"
) -> list[nn.Module]:
    """Return the modules of a residual network but for its head.

    Args:
        inputs: Features that it reads.
        widths: One for each block, all the same; none: there is no layer.
        activation: Between the layers of a block.
        kind: One of `BLOCKS`.

    Raises:
        InputError: If widths differ, or there is no such kind.
    """
    one_of("block", kind, BLOCKS)
    if len(set(widths)) > 1:
        raise InputError(
            f"net_arch={list(widths)}: residual blocks must have one width, such as "
            f"{[widths[0]] * len(widths)}",
            field="net_arch",
        )
    if not widths:
        return []
    modules = BLOCKS[kind](inputs, widths[0], len(widths), activation)
    initialise(modules)
    return modules


def initialise(modules: Iterable[nn.Module]) -> None:
    """Draw first weights of a trunk: orthogonal in the first layer, He's normal in the others."""
    layers = [m for module in modules for m in module.modules() if isinstance(m, nn.Linear)]
    for layer in layers:
        nn.init.zeros_(layer.bias)
    for layer in layers[:1]:
        nn.init.orthogonal_(layer.weight)
    for layer in layers[1:]:
        nn.init.kaiming_normal_(layer.weight)


def head(width: int, outputs: int) -> nn.Linear:
    """Return the linear layer behind a trunk, orthogonal at first."""
    layer = nn.Linear(width, outputs)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
