"""Which tensors of a module become sparse, and which role each plays.

Selected are the weights of linear and convolutional layers. The first one is the `input`, the last
one the `output`, the others are `hidden`; a caller who knows better (a policy with two heads) says
so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from sparse_core.config import ROLES, one_of
from sparse_core.layers import MASKED


@dataclass(frozen=True)
class Selected:
    """One weight tensor that can be sparse.

    Attributes:
        name: The parameter's full name in the root module, such as `"net.0.weight"`.
        layer: The module that holds it.
        parameter: Its name in that module.
        role: `input`, `hidden` or `output`.
        shape: `(out, in)` or `(out, in / groups, *kernel)`.
    """

    name: str
    layer: nn.Module
    parameter: str
    role: str
    shape: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Number of neurons or filters."""
        return self.shape[0]

    @property
    def numel(self) -> int:
        """Number of weights."""
        return int(torch.Size(self.shape).numel())

    def matches(self, pattern: str) -> bool:
        """Whether a pattern names it: its role, or a wildcard on its or its layer's name."""
        layer_name = self.name.rpartition(".")[0]
        return (
            pattern == self.role
            or fnmatchcase(self.name, pattern)
            or fnmatchcase(layer_name, pattern)
        )


def select(root: nn.Module, roles: Mapping[str, str] | None = None) -> list[Selected]:
    """List the weights of `root` that can be sparse, in the order of its modules.

    Args:
        root: Any module; the types in `sparse_core.layers.MASKED` are selected.
        roles: Wildcard on the layer's name -> role, for nets whose order says nothing.

    Raises:
        ValueError: If a role is unknown or a pattern in `roles` matches no layer.
    """
    found = [
        (name, module)
        for name, module in root.named_modules()
        if type(module) in MASKED and getattr(module, "weight", None) is not None
    ]
    selected = []
    unmatched = set(roles or {})
    for index, (name, module) in enumerate(found):
        last = index == len(found) - 1
        role = "input" if index == 0 else "output" if last else "hidden"
        for pattern, given in (roles or {}).items():
            one_of(f"roles[{pattern!r}]", given, ROLES)
            if fnmatchcase(name, pattern):
                role = given
                unmatched.discard(pattern)
        weight = module.get_parameter("weight")
        full = f"{name}.weight" if name else "weight"
        selected.append(Selected(full, module, "weight", role, tuple(weight.shape)))
    if unmatched:
        raise ValueError(
            f"roles={sorted(unmatched)}: no such layer; there are {', '.join(n for n, _ in found)}"
        )
    return selected
