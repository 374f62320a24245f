"""Kernels of condensed layers: products of sparse matrices, and their gradients, on the CPU.

`Pattern` says which weights exist. `linear`, `linear_forward` and `linear_backward` are a layer
on ordinary rows; `cpu` has the single steps in the blocked layout, for chains of layers; `Lookup`
is for one sample and weights that rest; `reference` says in plain NumPy what each of them
computes. `scores` finds where to grow. Nothing is compiled at import: `warmup` compiles ahead.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_core.kernels import cpu, reference, scores
    from sparse_core.kernels.format import GROUPS, Pattern, Transposed
    from sparse_core.kernels.layer import linear, linear_backward, linear_forward
    from sparse_core.kernels.lookup import Lookup
    from sparse_core.kernels.warming import warmup

__all__ = [
    "GROUPS",
    "Lookup",
    "Pattern",
    "Transposed",
    "cpu",
    "linear",
    "linear_backward",
    "linear_forward",
    "reference",
    "scores",
    "warmup",
]

_HOMES = {
    "GROUPS": "format",
    "Lookup": "lookup",
    "Pattern": "format",
    "Transposed": "format",
    "linear": "layer",
    "linear_backward": "layer",
    "linear_forward": "layer",
    "warmup": "warming",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOMES.get(name, name)}")
    return getattr(home, name) if name in _HOMES else home
