"""Kernels of condensed layers: products of sparse matrices, and their gradients.

All but those of the room `gpu` are for the CPU.

`Pattern` says which weights exist. `linear`, `linear_forward` and `linear_backward` are a layer
on ordinary rows (`api`); `checked` has the single steps in the blocked layout, for chains of
layers, and `unchecked` the same for arguments that are known to fit; `Lookup` is for one sample and
weights that rest; `reference` says in plain NumPy what each of them computes. `topk` finds where to
grow. Nothing is compiled at import: `warmup` compiles ahead.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_core.kernels import checked, reference, topk
    from sparse_core.kernels.api import linear, linear_backward, linear_forward
    from sparse_core.kernels.format import GROUPS, Pattern, Transposed
    from sparse_core.kernels.lookup import Lookup
    from sparse_core.kernels.warming import warmup

__all__ = [
    "GROUPS",
    "Lookup",
    "Pattern",
    "Transposed",
    "checked",
    "linear",
    "linear_backward",
    "linear_forward",
    "reference",
    "topk",
    "warmup",
]

_HOMES = {
    "GROUPS": "format",
    "Lookup": "lookup",
    "Pattern": "format",
    "Transposed": "format",
    "linear": "api",
    "linear_backward": "api",
    "linear_forward": "api",
    "warmup": "warming",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOMES.get(name, name)}")
    return getattr(home, name) if name in _HOMES else home
